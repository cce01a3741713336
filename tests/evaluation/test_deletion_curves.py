from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunelake.evaluation.deletion_curves import (
    ExplainedPrompt,
    TokenIds,
    deletion_curves,
    perturbed_prompt,
    query_probabilities,
)
from prunelake.schema.run_tables import ATTRIBUTIONS, DELETIONS
from prunelake.spec import Explanation

TOKENS = (10, 20, 30, 40, 50)
SCORES = (0.1, 0.5, 0.3, 0.2, 0.4)


class Asked:
    """A fake model: option 1 has probability sum(ids) / 1000 + level / 10, option 0 the rest."""

    def __init__(self) -> None:
        self.questions: list[tuple[TokenIds, TokenIds]] = []

    def __call__(self, questions: Sequence[tuple[TokenIds, TokenIds]]) -> list[NDArray[np.float64]]:
        self.questions += questions
        answers = [np.array([sum(ids) / 1000 + k / 10 for k in ks]) for ids, ks in questions]
        return [np.stack([1 - p, p], axis=1) for p in answers]


def ranking(
    scores: Sequence[float], level: int = 0, target: int = 1, **keys: Any
) -> dict[str, Any]:
    keys = {"example_id": "test:0", "method": "lime", "seed": 0} | keys
    return keys | {
        "run_id": "r",
        "level": level,
        "target": target,
        "scores": [float(score) for score in scores],
    }


def curves(
    rankings: list[dict[str, Any]],
    explanation: Explanation,
    tokens: TokenIds = TOKENS,
    asked: Asked | None = None,
    retokenised: Any = tuple,
) -> pl.DataFrame:
    """The curves of one example whose confidence without deletions is 0.9 - k / 100 at level k."""
    predictions = pl.DataFrame(
        {"level": level, "example_id": "test:0", "confidence": 0.9 - level / 100}
        for level in sorted({row["level"] for row in rankings})
    )
    prompt = ExplainedPrompt("test:0", tokens, asked or Asked(), retokenised)
    return deletion_curves(ATTRIBUTIONS.frame(rankings), predictions, [prompt], explanation)


def values(frame: pl.DataFrame, operator: str, kind: str) -> list[float]:
    return (
        frame.filter(operator=operator, kind=kind)
        .sort("fraction")["probability_perturbed"]
        .to_list()
    )


def test_curves_equal_those_computed_by_hand() -> None:
    # In order of score: 20, 50, 30, 40, 10. A deleted text comes back with each id one higher.
    explanation = Explanation(fractions=(0.2, 0.4, 0.6), baseline_token=7)
    frame = curves(
        [ranking(SCORES)], explanation, retokenised=lambda ids: tuple(i + 1 for i in ids)
    )
    assert frame.schema == DELETIONS.schema
    assert len(frame) == 2 * 2 * 3
    expected = {
        ("delete_text", "comprehensiveness"): [0.134, 0.083, 0.052],
        ("delete_text", "sufficiency"): [0.021, 0.072, 0.103],
        ("replace", "comprehensiveness"): [0.137, 0.094, 0.071],
        ("replace", "sufficiency"): [0.048, 0.091, 0.114],
    }
    for (operator, kind), numbers in expected.items():
        assert values(frame, operator, kind) == pytest.approx(numbers)
    assert frame.sort("fraction")["top_count"].unique(maintain_order=True).to_list() == [1, 2, 3]
    assert set(frame["probability_full"]) == {0.9}


def test_the_probability_belongs_to_the_explained_option_at_the_rows_level() -> None:
    rankings = [ranking(SCORES, level=0), ranking(SCORES, level=3, target=0)]
    frame = curves(rankings, Explanation(fractions=(0.2,), operators=("delete_text",)))
    comprehensiveness = frame.filter(kind="comprehensiveness")
    assert comprehensiveness["level"].to_list() == [0, 3]
    assert comprehensiveness["probability_perturbed"].to_list() == pytest.approx(
        [0.13, 1 - (0.13 + 0.3)]
    )
    assert comprehensiveness["probability_full"].to_list() == pytest.approx([0.9, 0.87])


@pytest.mark.parametrize(
    ("count", "fraction", "top"),
    [(9, 0.1, 0), (10, 0.1, 1), (19, 0.1, 1), (10, 0.3, 3), (30, 0.1, 3), (3, 0.34, 1), (5, 1, 5)],
)
def test_the_top_count_is_rounded_down_and_0_gives_no_row(
    count: int, fraction: float, top: int
) -> None:
    tokens = tuple(range(1, count + 1))
    frame = curves([ranking(tokens)], Explanation(fractions=(fraction,)), tokens)
    assert set(frame["top_count"]) == ({top} if top else set())


def test_whole_products_are_not_rounded_down() -> None:
    tenths = tuple(n / 10 for n in range(1, 11))
    for count in range(10, 210, 10):
        tokens = tuple(range(1, count + 1))
        frame = curves(
            [ranking(tokens)], Explanation(fractions=tenths, operators=("replace",)), tokens
        )
        tops = frame.filter(kind="sufficiency").sort("fraction")["top_count"].to_list()
        assert tops == [n * count // 10 for n in range(1, 11)]


def test_tokens_rank_by_signed_score_and_then_by_position() -> None:
    asked = Asked()
    explanation = Explanation(fractions=(0.4,), operators=("delete_text",))
    curves([ranking((-9, 0.2, 0.0, 0.2, 0.2))], explanation, asked=asked)
    assert [ids for ids, _ in asked.questions] == [(10, 30, 50), (20, 40)]


def test_equal_prompts_are_evaluated_once_at_the_needed_levels() -> None:
    asked = Asked()
    rankings = [
        ranking(SCORES, level=0),
        ranking(SCORES, level=2),
        ranking(SCORES, level=2, seed=1),
        ranking(SCORES[::-1], level=4, method="random"),
    ]
    explanation = Explanation(fractions=(0.2, 0.25, 0.8), operators=("delete_text",))
    frame = curves(rankings, explanation, asked=asked)
    assert len(frame) == 4 * 3 * 2
    # The lowest token of one ranking is not the highest of the other, so tops of one and four
    # tokens give eight prompts; 0.25 takes the same token as 0.2.
    assert dict(asked.questions) == {
        (10, 30, 40, 50): (0, 2),
        (20,): (0, 2),
        (10,): (0, 2),
        (20, 30, 40, 50): (0, 2),
        (10, 20, 30, 50): (4,),
        (40,): (4,),
        (50,): (4,),
        (10, 20, 30, 40): (4,),
    }
    assert len(asked.questions) == 8


def test_a_prompt_too_short_for_any_fraction_has_no_curve() -> None:
    frame = curves([ranking((1, 2))], Explanation(fractions=(0.1, 0.4)), TOKENS[:2])
    assert frame.schema == DELETIONS.schema
    assert frame.is_empty()


def test_perturbed_prompts() -> None:
    prompt = ExplainedPrompt("test:0", (5, 6, 7), Asked(), lambda ids: (sum(ids),))
    kept = np.array([True, False, True])
    assert perturbed_prompt(prompt, kept, "replace", 9) == (5, 9, 7)
    assert perturbed_prompt(prompt, kept, "delete_text", 9) == (12,)


def test_each_level_gets_its_own_probabilities_in_any_order() -> None:
    asked = Asked()
    answers = query_probabilities(
        ExplainedPrompt("test:0", TOKENS, asked, tuple), {(10,): [8, 1], (20, 30): [8]}
    )
    assert asked.questions == [((10,), (1, 8)), ((20, 30), (8,))]
    expected = {((10,), 1): 0.11, ((10,), 8): 0.81, ((20, 30), 8): 0.85}
    assert {key: answer[1] for key, answer in answers.items()} == pytest.approx(expected)


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=2, max_size=30),
    fraction=st.floats(0.01, 1),
)
def test_one_kind_deletes_the_tokens_that_the_other_keeps(
    scores: list[float], fraction: float
) -> None:
    asked = Asked()
    tokens = tuple(range(1, len(scores) + 1))
    explanation = Explanation(fractions=(fraction,), operators=("delete_text",))
    frame = curves([ranking(scores)], explanation, tokens, asked)
    if frame.is_empty():
        assert fraction * len(tokens) < 1
        return
    rest, top = (set(ids) for ids, _ in asked.questions)
    assert rest | top == set(tokens)
    assert not rest & top
    assert len(top) == frame["top_count"][0]
    assert min(scores[t - 1] for t in top) >= max((scores[t - 1] for t in rest), default=-9)
