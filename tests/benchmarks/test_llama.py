"""The estimate of the paper's protocol from a few rows: tokens count, rows do not."""

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.llama import METHODS, SEEDS, planned_tokens
from prunelake.planning.cost import NestedLevels
from prunelake.spec import Explanation, SweepSpec

EXPLANATION = Explanation(methods=METHODS, seeds=SEEDS, operators=("delete_text",))


def plan(*lengths: int, explanation: Explanation = EXPLANATION) -> Any:
    """A plan with prompts of these lengths, and options of three tokens."""
    return SimpleNamespace(
        spec=SweepSpec(task="demo", explain=explanation),
        levels=(0, 1, 2),
        examples=[
            SimpleNamespace(prompt=(5,) * length, options=((6, 7), (8,))) for length in lengths
        ],
    )


def test_a_row_of_twice_the_length_takes_four_times_as_long() -> None:
    nested = NestedLevels((3, 1, 0, 2), 4)
    short, long = (planned_tokens(plan(length), nested) for length in (200, 400))
    assert long / short == pytest.approx(4, rel=0.1)
    assert planned_tokens(plan(200, 400), nested) == short + long


def test_predictions_are_not_counted_for_each_method_and_seed() -> None:
    nested = NestedLevels((3, 1, 0, 2), 4)
    few = replace_methods(("kernel_shap",), (0,))
    ratio = planned_tokens(plan(50), nested) / planned_tokens(plan(50, explanation=few), nested)
    assert ratio < len(METHODS) * len(SEEDS)


def replace_methods(methods: tuple[Any, ...], seeds: tuple[int, ...]) -> Explanation:
    return EXPLANATION.model_copy(update={"methods": methods, "seeds": seeds})
