"""A comparison as a command, and the larger comparison that settles its questions."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunelake.command_line import comparison_command, settling_sweep
from prunelake.comparison_spec import ComparisonSpec, ModelVariant
from prunelake.spec import Explanation, Rows

SPEC = ComparisonSpec.model_validate(
    {"baseline": "hub:org/base", "candidates": ["q=./a b,dtype=bfloat16"], "task": "boolq"}
)


def test_a_plain_comparison_is_a_short_command() -> None:
    command = comparison_command(SPEC)
    assert command == "prunelake compare hub:org/base 'q=./a b,dtype=bfloat16' --task boolq"


def test_every_option_is_in_the_command() -> None:
    explain = Explanation(methods=("lime",), seeds=(0, 1), operators=("replace",), rows=20)
    spec = SPEC.model_copy(
        update={"rows": Rows(sample=50, seed=2), "explain": explain, "special_tokens": "bos"}
    )
    words = shlex.split(comparison_command(spec))[5:]
    assert words == [
        *("boolq", "--rows", "sample:50:2", "--methods", "lime", "--seeds", "0,1"),
        *("--operators", "replace", "--explain-rows", "20", "--special-tokens", "bos"),
    ]
    other = SPEC.model_copy(update={"explain": Explanation(methods=("leverage_shap",))})
    assert comparison_command(other).endswith(
        "  # by pl.compare, with explain.leverage_samples: 1.5"
    )
    without = SPEC.model_copy(update={"explain": None})
    assert comparison_command(without).endswith("--methods none")


@given(
    st.builds(
        ModelVariant,
        model=st.sampled_from(["hub:org/base@main", "./a", "package:p/m.gguf"]),
        label=st.sampled_from(["", "int8", "level 4"]),
        dtype=st.sampled_from(["float32", "bfloat16"]),
        level=st.integers(0, 9),
        strategy=st.just("mlp:last"),
    )
)
def test_a_model_is_read_again_from_its_text(variant: ModelVariant) -> None:
    again = ModelVariant.model_validate(variant.text)
    assert again.name == variant.name
    assert (again.model, again.dtype, again.level) == (variant.model, variant.dtype, variant.level)
    assert again.strategy == variant.strategy or not variant.level


@pytest.mark.parametrize(
    ("rows", "explained", "split", "expected"),
    [
        (1234, 0, None, "--rows 1300 --explain-rows 100"),
        (90, 333, None, "--rows 340 --explain-rows 340"),
        (1234, 70, 500, "--rows 500 --explain-rows 100"),
        (1234, 0, 100, None),
    ],
)
def test_the_settling_comparison_has_the_rows_that_are_needed(
    rows: int, explained: int, split: int | None, expected: str | None
) -> None:
    spec = SPEC.model_copy(update={"split_rows": split})
    settling = settling_sweep(spec, 100, rows, explained)
    assert (settling.command or "").endswith(expected or "")
    assert (settling.command is None) == (expected is None)
    assert ("has" in settling.shortage) == (split is not None)
