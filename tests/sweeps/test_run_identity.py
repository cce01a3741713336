"""The settings that make another run, and those that do not."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from prunelake.identity import FIELDS_OF_SOME_RUNS, RunIdentity, content_hash
from prunelake.spec import Explanation, Strategy, SweepSpec
from prunelake.strategy_spec import DEFAULT_SEARCH_ROWS
from prunelake.sweeps import plan as plan_module
from prunelake.tasks.rows import data_hash
from tests.support.sweeps.planned_sweep import Planner


def test_the_rows_of_a_search_are_part_of_the_identity(
    planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"strategy": {"name": "divergence", "search_rows": 3}}
    work = planned(**asked)
    assert work.identity.search_hash == data_hash([q.example for q in work.search_examples])
    assert RunIdentity.model_validate_json(work.identity.model_dump_json()) == work.identity
    assert SweepSpec.model_validate_json(work.spec.model_dump_json()) == work.spec
    assert planned(strategy={"name": "divergence"}).identity.run_id != work.identity.run_id
    fewer = [question.example for question in work.search_examples[1:]]
    monkeypatch.setattr(plan_module, "draw_search_examples", lambda *_: fewer)
    same_but_searched_elsewhere = planned(**asked).identity
    assert same_but_searched_elsewhere.data_hash == work.identity.data_hash
    assert same_but_searched_elsewhere.run_id != work.identity.run_id


SEQUENTIAL = {
    **{"margin": 0.02, "planned_rows": 2, "planned_explained": [[1, 2]]},
    "looks": [{"run_id": "0" * 16, "rows": 1, "explained": []}],
}
CHANGES: list[dict[str, Any]] = [
    {"levels": [0, 1]},
    {"rows": {"first": 3}},
    {"rows": {"numbers": [1, 0]}},
    {"task": "everyday_knowledge"},
    {"strategy": {"name": "random"}},
    {"strategy": {"name": "last"}},
    {"strategy": {"name": "iterative"}},
    {"strategy": {"name": "loss"}},
    {"strategy": {"name": "divergence"}},
    {"strategy": {"name": "balanced"}},
    {"strategy": {"unit": "mlp"}},
    {"strategy": {"unit": "block"}},
    {"calibration": {"windows": 1, "window_tokens": 16}},
    {"calibration": {"windows": 2, "window_tokens": 15}},
    {"explain": None},
    {"explain": {"rows": 1}},
    {"explain": {"levels": [0]}},
    {"explain": {"methods": ["lime"]}},
    {"explain": {"methods": ["leverage_shap"]}},
    {"explain": {"seeds": [1]}},
    {"explain": {"operators": ["replace"]}},
    {"explain": {"fractions": [0.5]}},
    {"explain": {"baseline_token": 1}},
    {"explain": {"bounds_beam": 1}},
    {"dtype": "bfloat16"},
    {"special_tokens": "bos"},
    {"texts": {"rows": 1}},
    {"texts": {"rows": 1, "new_tokens": 2}},
    {"explain": {"level_rows": [[1, 1]]}},
    {"strategy": {"name": "balanced", "search_rows": 2}},
    {"sequential": {"margin": 0.02, "planned_rows": 2}},
    {"sequential": SEQUENTIAL},
]
"""Changes of a spec that make another run."""

TESTED_ELSEWHERE = {
    *("model", "commit", "trust_remote_code"),  # the weights, and the code that runs
    *("rows.sample", "rows.seed"),  # the rows that they select
    *("calibration.source", "strategy.seed"),
    *("explain.leverage_samples", "explain.unpruned_samples", "explain.difference_samples"),
}
WITHOUT_EFFECT = {"split_rows"}


def test_every_setting_of_a_spec_is_tested() -> None:
    """A setting that the identity forgets would give two sweeps the same numbers."""
    settings = set()
    for name, field in SweepSpec.model_fields.items():
        types = get_args(field.annotation) or (field.annotation,)
        parts = [part for part in types if hasattr(part, "model_fields")]
        settings |= {f"{name}.{own}" for part in parts for own in part.model_fields} or {name}
    changed = {
        f"{name}.{own}" if isinstance(value, dict) else name
        for change in CHANGES
        for name, value in change.items()
        for own in (value if isinstance(value, dict) else [name])
    }
    missing = settings - changed - TESTED_ELSEWHERE - WITHOUT_EFFECT
    assert not missing, (
        f"{missing}: add each to RunIdentity (lib/prunelake/identity.py), and a change of it to "
        "CHANGES; or to WITHOUT_EFFECT if no number depends on it"
    )


@pytest.mark.parametrize("changes", CHANGES)
def test_every_setting_that_changes_the_numbers_changes_the_run_id(
    changes: dict[str, Any], planned: Planner
) -> None:
    assert planned(**changes).identity.run_id != planned().identity.run_id


def test_the_id_of_a_run_is_the_hash_of_all_fields_of_its_identity() -> None:
    identity = RunIdentity(
        format_version=2,
        revision="0" * 40,
        task="opinions",
        data_hash="1" * 64,
        levels=(0, 1),
        strategy=Strategy(),
        calibration_hash=None,
        explain=Explanation(rows=2, levels=(0, 1)),
        dtype="float32",
        special_tokens="tokenizer",
        search_hash=None,
    )
    stored = json.loads(identity.model_dump_json())
    assert stored.keys() == RunIdentity.model_fields.keys() - FIELDS_OF_SOME_RUNS
    assert stored["strategy"].keys() == Strategy.model_fields.keys()
    assert stored["explain"].keys() == Explanation.model_fields.keys()
    assert content_hash(stored)[:16] == identity.run_id
    assert identity.run_id == "aaaf0eb46662f714"
    seeded = identity.model_copy(update={"strategy": Strategy(name="random", seed=3)})
    assert seeded.run_id == "da297501043753d1"


def test_requested_bounds_are_part_of_spec_and_identity(planned: Planner) -> None:
    work = planned(explain={"bounds_beam": 3})
    assert work.explanation is not None
    assert work.explanation.bounds_beam == 3
    assert RunIdentity.model_validate_json(work.identity.model_dump_json()) == work.identity
    assert SweepSpec.model_validate_json(work.spec.model_dump_json()) == work.spec


def test_samples_of_leverage_shap_are_part_of_the_identity_if_it_is_a_method(
    planned: Planner,
) -> None:
    default, given = (
        planned(explain={"methods": ["leverage_shap"], **samples})
        for samples in ({}, {"leverage_samples": 2})
    )
    assert default.identity.run_id != given.identity.run_id
    for work in (default, given):
        assert RunIdentity.model_validate_json(work.identity.model_dump_json()) == work.identity
        assert SweepSpec.model_validate_json(work.spec.model_dump_json()) == work.spec
    same = planned(explain={"methods": ["leverage_shap"], "leverage_samples": 1.5})
    assert same.identity.run_id == default.identity.run_id


def test_random_orders_of_two_seeds_are_two_runs(planned: Planner) -> None:
    runs = {planned(strategy={"name": "random", "seed": n}).identity.run_id for n in (0, 1)}
    assert len(runs) == 2


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_another_model_is_another_run(name: str, planned: Planner, folder: Path) -> None:
    before = planned().identity.run_id
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert planned().identity.run_id != before


def test_settings_without_effect_on_the_numbers_do_not_change_the_run_id(
    planned: Planner, folder: Path, tmp_path: Path
) -> None:
    run_id = planned().identity.run_id
    shutil.copytree(folder, tmp_path / "elsewhere")
    for changes in (
        {"model": str(tmp_path / "elsewhere")},
        {"levels": [0, 1, 2]},
        {"rows": {"numbers": [0, 1]}},
        {"strategy": {"name": "cosine", "seed": 5}},
        {"strategy": {"name": "cosine", "search_rows": DEFAULT_SEARCH_ROWS}},
        {"explain": {"rows": 2, "levels": [1, 2], "seeds": [0, 0]}},
    ):
        assert planned(**changes).identity.run_id == run_id, changes


def test_the_same_calibration_text_from_two_places_is_the_same_run(
    planned: Planner, tmp_path: Path
) -> None:
    text = "Kites need wind. " * 9
    (tmp_path / "one.txt").write_text(text)
    (tmp_path / "two.jsonl").write_text(json.dumps({"text": text.strip()}) + "\n")
    (tmp_path / "other.txt").write_text(text.upper())
    runs = [
        planned(
            calibration={"source": str(tmp_path / name), "windows": 2, "window_tokens": 16}
        ).identity.run_id
        for name in ("one.txt", "two.jsonl", "other.txt")
    ]
    assert runs[0] == runs[1] != runs[2]
