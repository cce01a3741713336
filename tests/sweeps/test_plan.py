import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import MambaConfig

from prunelake.errors import (
    DatasetNotFound,
    ExampleTooLong,
    InvalidSpec,
    ModelNotFound,
    PruneLakeError,
    UnknownLayer,
    UnknownTask,
    UnsupportedModel,
)
from prunelake.identity import FIELDS_OF_SOME_RUNS, RunIdentity, content_hash
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_SEARCH_ROWS, Explanation, Strategy, SweepSpec
from prunelake.sweeps import plan as plan_module
from prunelake.sweeps.plan import SweepPlan, plan_sweep
from prunelake.tasks.rows import data_hash
from tests.support.models.tiny_models import FAMILIES, LAYER_COUNT
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.models.weight_files import write_other_weights

CONTEXT = 512
Planner = Callable[..., SweepPlan]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose weights cannot be read: a plan never reads them."""
    folder = tmp_path / "model"
    config = FAMILIES["llama"]()
    config.max_position_embeddings = CONTEXT
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    write_other_weights(folder / "model.safetensors", 100_000)
    return folder


@pytest.fixture
def planned(folder: Path, tmp_path: Path) -> Planner:
    """Plan a sweep of two rows of a bundled task; the arguments change its spec."""

    def planned(**changes: Any) -> SweepPlan:
        spec = {
            "model": str(folder),
            "task": "opinions",
            "rows": {"first": 2},
            "calibration": {"windows": 2, "window_tokens": 16},
            **changes,
        }
        return plan_sweep(
            SweepSpec.model_validate(spec), Settings(cache=tmp_path / "cache", data=None)
        )

    return planned


def test_a_plan_is_resolved(planned: Planner) -> None:
    work = planned(explain={"rows": 1}, special_tokens="bos")
    assert work.levels == (0, 1, 2)  # up to half of five layers
    assert work.explanation is not None
    assert (work.explanation.levels, work.explanation.rows) == ((0, 1, 2), 1)
    assert [encoded.example.example_id[-2:] for encoded in work.examples] == [":0", ":1"]
    assert work.explained_examples == work.examples[:1]
    assert [len(window) for window in work.calibration_windows] == [17, 17]
    assert all(window[0] == tiny_tokenizer().bos_token_id for window in work.calibration_windows)
    assert work.source.layer_count == LAYER_COUNT


def test_level_0_is_always_there(planned: Planner) -> None:
    work = planned(levels=[3, 5], explain={"levels": [5]})
    assert work.levels == (0, 3, 5)
    assert work.explanation is not None
    assert work.explanation.levels == (0, 5)


def test_all_rows_are_explained_by_default(planned: Planner) -> None:
    assert planned().explained_examples == planned().examples
    assert planned(explain=None).explained_examples == ()


@pytest.mark.parametrize("name", ["random", "last", "divergence", "balanced"])
def test_only_orders_measured_on_text_need_text(name: str, planned: Planner) -> None:
    work = planned(strategy={"name": name}, calibration={"source": "nowhere.txt"})
    assert work.calibration_windows == ()
    assert work.identity.calibration_hash is None


@pytest.mark.parametrize(
    ("name", "size", "read"),
    [("cosine", 16, 16), ("iterative", 16, 16), ("loss", 16, 3), ("loss", 5, 2), ("loss", 2, 2)],
)
def test_loss_reads_the_first_fifth_of_each_window(
    name: str, size: int, read: int, planned: Planner
) -> None:
    calibration = {"windows": 3, "window_tokens": size}
    whole = planned(calibration=calibration).calibration_windows
    work = planned(strategy={"name": name}, calibration=calibration)
    assert work.calibration_windows == tuple(window[:read] for window in whole)
    assert work.identity.calibration_hash == content_hash(work.calibration_windows)


@pytest.mark.parametrize("name", ["divergence", "balanced"])
def test_a_search_is_on_rows_that_are_not_reported(name: str, planned: Planner) -> None:
    work = planned(rows={"sample": 50, "seed": 1}, strategy={"name": name})
    searched = {question.example.example_id for question in work.search_examples}
    assert len(searched) == DEFAULT_SEARCH_ROWS
    assert searched.isdisjoint(encoded.example.example_id for encoded in work.examples)
    for name in ("cosine", "loss", "last"):
        assert planned(strategy={"name": name}).search_examples == ()


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


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"levels": [6]}, UnknownLayer, "level 6: the model has 5 attention layers; levels go"),
        ({"levels": [6], "strategy": "mlp:last"}, UnknownLayer, "the model has 5 MLPs; levels go"),
        ({"explain": {"levels": [1, 4]}}, InvalidSpec, r"\[4\] are not among .* \[0, 1, 2\]"),
        ({"explain": {"rows": 3}}, InvalidSpec, "explain.rows 3: the sweep has 2 examples"),
        ({"texts": {"rows": 3}}, InvalidSpec, "--text-rows 3 .*: the sweep has 2 examples"),
        (
            {"texts": {"rows": 1, "new_tokens": 500}},
            InvalidSpec,
            "500 new tokens exceed the model's context of 512; take at most --text-tokens",
        ),
        ({"explain": {"baseline_token": 97}}, InvalidSpec, "baseline_token 97: .* 0 to 96"),
        ({"calibration": {"window_tokens": 513}}, InvalidSpec, "513: .* 512 tokens.* at most 512"),
        (
            {"calibration": {"window_tokens": 512}, "special_tokens": "bos"},
            InvalidSpec,
            "512: .* 1 of them are special tokens; take at most 511",
        ),
        (
            {"calibration": {"windows": 10_000}},
            InvalidSpec,
            "bundled has .* tokens, and 10000 windows of 512 need 5120000",
        ),
        ({"calibration": {"source": "nowhere.txt"}}, DatasetNotFound, "'nowhere.txt'"),
        ({"task": "opinion"}, UnknownTask, "unknown task 'opinion'"),
        ({"rows": {"numbers": [10**6]}}, InvalidSpec, "no row 1000000"),
        (
            {"rows": {"first": 490}, "strategy": {"name": "divergence"}},
            InvalidSpec,
            "needs 20 rows that are not reported, but .*opinions.jsonl has 10; report "
            "fewer rows, or set --search-rows to at most 10",
        ),
        ({"model": "nowhere"}, ModelNotFound, "no folder with config.json"),
    ],
)
def test_a_wrong_spec_is_refused_before_the_model_is_loaded(
    changes: dict[str, Any], error: type[PruneLakeError], message: str, planned: Planner
) -> None:
    with pytest.raises(error, match=message) as caught:
        planned(**changes)
    assert "\n" not in str(caught.value)


def test_an_example_beyond_the_models_context_is_refused(planned: Planner, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    with pytest.raises(ExampleTooLong, match="the model's context has 40"):
        planned()


@pytest.mark.parametrize("field", ["methods", "seeds", "operators", "fractions", "levels"])
def test_an_explanation_without_methods_is_refused(field: str, planned: Planner) -> None:
    with pytest.raises(ValidationError, match=rf"explain\.{field}"):
        planned(explain={field: []})


def test_a_sweep_without_levels_is_refused(planned: Planner) -> None:
    with pytest.raises(ValidationError, match="levels"):
        planned(levels=[])


def test_a_seed_beyond_32_bits_is_refused(planned: Planner) -> None:
    with pytest.raises(ValidationError, match=r"explain\.seeds\.0"):
        planned(explain={"seeds": [2**31]})


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNELAKE_LAKE", "")
    monkeypatch.setenv("PRUNELAKE_DATA", "")
    settings = Settings()
    assert (settings.lake, settings.data) == (Path("lake"), None)


@pytest.mark.parametrize(
    "changes",
    [
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
    ],
)
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


@pytest.mark.parametrize(
    ("explain", "told"),
    [
        ({"leverage_samples": 2}, "leverage_shap, which is not among the methods difference_shap"),
        ({"methods": ["leverage_shap"], "leverage_samples": 0}, "leverage_samples"),
        ({"methods": ["lime"], "unpruned_samples": 9}, "difference_shap, which is not among"),
        ({"methods": ["lime"], "difference_samples": [1]}, "difference_shap, which is not among"),
        ({"methods": ["difference_shap"], "unpruned_samples": 1}, "1.5 exceeds unpruned_samples 1"),
    ],
)
def test_samples_for_an_absent_method_and_zero_samples_are_refused(
    explain: dict[str, Any], told: str, planned: Planner
) -> None:
    with pytest.raises(ValidationError, match=told):
        planned(explain=explain)


def test_a_strategy_may_be_given_by_its_label(planned: Planner) -> None:
    for label, fields in {
        "cosine": {"name": "cosine"},
        "random:3": {"name": "random", "seed": 3},
        "mlp:cosine": {"name": "cosine", "unit": "mlp"},
        "block:random:3": {"name": "random", "seed": 3, "unit": "block"},
    }.items():
        work = planned(strategy=label)
        assert work.identity == planned(strategy=fields).identity
        assert work.spec.strategy.label == label
        assert RunIdentity.model_validate_json(work.identity.model_dump_json()) == work.identity
    assert Strategy.model_validate("attention:last") == Strategy(name="last")


@pytest.mark.parametrize("label", ["mlp", "mlp:", "ffn:cosine", "cosine:mlp", "mlp:block:last", ""])
def test_an_unknown_label_of_a_strategy_is_refused(label: str, planned: Planner) -> None:
    with pytest.raises(ValidationError, match=r"strategy\.(name|seed)"):
        planned(strategy=label)


@pytest.mark.parametrize("unit", ["attention", "mlp"])
def test_a_unit_that_the_model_lacks_is_refused_before_it_is_loaded(
    unit: str, planned: Planner, folder: Path
) -> None:
    MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2).save_pretrained(folder)
    with pytest.raises(UnsupportedModel, match=r"MambaForCausalLM has no .*, a state space"):
        planned(strategy={"unit": unit})


@pytest.mark.parametrize("name", ["cosine", "loss", "random"])
def test_search_rows_without_a_search_are_refused(name: str, planned: Planner) -> None:
    with pytest.raises(ValidationError, match=f"divergence and balanced, not for {name}"):
        planned(strategy={"name": name, "search_rows": 5})


def test_a_beam_of_width_0_is_refused(planned: Planner) -> None:
    with pytest.raises(ValidationError, match=r"explain\.bounds_beam"):
        planned(explain={"bounds_beam": 0})


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
