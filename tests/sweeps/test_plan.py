"""The plan of a sweep, and the specs that it refuses."""

import json
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
from prunelake.identity import RunIdentity, content_hash
from prunelake.settings import Settings
from prunelake.spec import Strategy
from prunelake.strategy_spec import DEFAULT_SEARCH_ROWS
from tests.support.models.tiny_models import LAYER_COUNT
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.sweeps.planned_sweep import Planner


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
