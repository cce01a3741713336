"""The specification of a comparison."""

import pytest
from pydantic import ValidationError

from prunelake.comparison_spec import ComparisonSpec, ModelVariant
from prunelake.spec import Explanation, Rows, Strategy

BASE = {"model": "hub:org/base"}


@pytest.mark.parametrize(
    ("text", "expected", "name"),
    [
        ("hub:org/base@main", {"model": "hub:org/base@main"}, "base@main"),
        ("./int8/", {"model": "./int8/"}, "int8"),
        ("q4=./a.gguf", {"label": "q4", "model": "./a.gguf"}, "q4"),
        ("./a=b", {"model": "./a=b"}, "a=b"),
        (
            "package:p/m.gguf,dtype=bfloat16",
            {"model": "package:p/m.gguf", "dtype": "bfloat16"},
            "m bfloat16",
        ),
        ("m,level=4", {"model": "m", "level": 4}, "m cosine 4"),
        (
            "m,strategy=mlp:last,level=2",
            {"model": "m", "strategy": "mlp:last", "level": 2},
            "m mlp:last 2",
        ),
    ],
)
def test_a_model_is_written_in_one_word(text: str, expected: dict[str, object], name: str) -> None:
    variant = ModelVariant.model_validate(text)
    assert variant == ModelVariant.model_validate(expected)
    assert variant.name == name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("m,layers=4", "'layers=4' is no setting of a model; write NAME=VALUE with a name among"),
        ("m,level", "'level' is no setting of a model"),
        ("m,level=-1", "level"),
        ("int8=", "at least 1 character"),
        ("m,dtype=int8", "float32"),
    ],
)
def test_a_wrong_setting_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ModelVariant.model_validate(text)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"candidates": []}, "at least 1"),
        ({"candidates": [BASE]}, "two models have the label 'base'"),
        ({"candidates": [{"model": "m", "label": "a\nb"}]}, "cannot be printed"),
        (
            {"candidates": ["m"], "explain": {"methods": ["difference_shap"]}},
            "take one of .*leverage_shap",
        ),
    ],
)
def test_a_comparison_that_cannot_be_told_apart_is_refused(
    fields: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValidationError, match=problem):
        ComparisonSpec.model_validate({"baseline": BASE, "task": "boolq", **fields})


@pytest.mark.parametrize(
    ("explain", "masks"),
    [
        ({}, 7.0),
        ({"rows": 20}, 7.0),
        ({"methods": ["leverage_shap"]}, 7.0),
        ({"methods": ["lime", "leverage_shap"], "leverage_samples": 3}, 3.0),
        ({"methods": ["lime"]}, 1.5),  # not used
    ],
)
def test_leverage_shap_takes_seven_masks_unless_a_number_is_given(
    explain: dict[str, object], masks: float
) -> None:
    fields = {"baseline": "a", "candidates": ["b"], "task": "boolq", "explain": explain}
    spec = ComparisonSpec.model_validate(fields)
    assert spec.explain is not None
    assert spec.explain.leverage_samples == masks
    assert ComparisonSpec.model_validate_json(spec.model_dump_json()) == spec


def test_each_model_has_a_sweep_of_its_own() -> None:
    spec = ComparisonSpec(
        baseline=ModelVariant(model="a"),
        candidates=(
            ModelVariant(model="a", level=4, strategy=Strategy(name="random", seed=3)),
            ModelVariant(model="b", dtype="bfloat16"),
        ),
        task="boolq",
        rows=Rows(first=50),
        explain=Explanation(methods=("lime",), rows=20, levels=(0, 1), level_rows=((1, 8),)),
    )
    sweeps = [spec.sweep_spec(level) for level in range(3)]
    assert [(s.model, s.dtype, s.levels) for s in sweeps] == [
        ("a", "float32", (0,)),
        ("a", "float32", (0, 4)),
        ("b", "bfloat16", (0,)),
    ]
    assert [s.strategy.label for s in sweeps] == ["last", "random:3", "last"]
    assert [s.explain and (s.explain.rows, s.explain.levels) for s in sweeps] == [
        (20, (0,)),
        (8, (4,)),
        None,
    ]
