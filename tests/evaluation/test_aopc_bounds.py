import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunelake.evaluation.aopc_bounds import aopc_bounds, max_perturbed_prompt_count
from prunelake.evaluation.deletion_curves import (
    ExplainedPrompt,
    TokenIds,
    deletion_curves,
    perturbed_prompt,
)
from prunelake.schema.run_tables import ATTRIBUTIONS, BOUNDS
from prunelake.spec import Explanation

EVERY_SET = 20  # six tokens have at most so many sets of one size
LEVELS = (0, 3)
TARGETS = {0: 1, 3: 0}
FULL = {0: 0.9, 3: 0.6}
# These fractions of six tokens are 1, 1, 3, 4 tokens; of fewer tokens, some fractions are none.
EXPLANATION = Explanation(fractions=(0.2, 0.25, 0.5, 0.7), baseline_token=7)
KEY = ("level", "operator", "kind")

Probability = Callable[[TokenIds, int], float]


class Model:
    """A fake model: option 1 has `probability(ids, level)`, option 0 the rest."""

    def __init__(self, probability: Probability) -> None:
        self.probability = probability
        self.calls: list[Sequence[tuple[TokenIds, TokenIds]]] = []

    def __call__(self, questions: Sequence[tuple[TokenIds, TokenIds]]) -> list[NDArray[np.float64]]:
        self.calls.append(questions)
        answers = [
            np.array([self.probability(ids, k) for k in levels]) for ids, levels in questions
        ]
        return [np.stack([1 - p, p], axis=1) for p in answers]


def rugged(seed: int) -> Probability:
    """Arbitrary probabilities that depend only on ids and level."""
    return lambda ids, level: np.random.default_rng([seed, level, *ids]).random()


def halved(ids: Sequence[int]) -> TokenIds:
    """Other ids for the same text: different tokens may decode alike."""
    return tuple(i // 2 for i in ids)


def prompt_of(count: int, probability: Probability) -> ExplainedPrompt:
    return ExplainedPrompt("test:0", tuple(range(10, 10 + count)), Model(probability), halved)


def predictions(levels: Sequence[int] = LEVELS) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "run_id": "r",
            "level": level,
            "example_id": "test:0",
            "prediction": TARGETS[level],
            "confidence": FULL[level],
        }
        for level in levels
    )


def found(
    prompt: ExplainedPrompt,
    beam_width: int = EVERY_SET,
    explanation: Explanation = EXPLANATION,
    levels: Sequence[int] = LEVELS,
) -> dict[tuple[Any, ...], tuple[float, float]]:
    """The lower and upper bound by level, operator and kind."""
    frame = aopc_bounds(predictions(levels), [prompt], levels, beam_width, explanation)
    assert frame.schema == BOUNDS.schema
    assert not frame.select(BOUNDS.key).is_duplicated().any()
    return {
        tuple(row[name] for name in KEY): (row["lower"], row["upper"])
        for row in frame.iter_rows(named=True)
    }


def areas_of_all_rankings(
    prompt: ExplainedPrompt, explanation: Explanation, level: int, operator: Any, kind: str
) -> list[float]:
    count = len(prompt.tokens)
    sizes = [size for f in explanation.fractions if (size := math.floor(f * count + 1e-9))]
    areas = []
    for ranking in permutations(range(count)):
        drops = []
        for size in sizes:
            is_top = np.isin(np.arange(count), ranking[:size])
            kept = is_top if kind == "sufficiency" else ~is_top
            ids = perturbed_prompt(prompt, kept, operator, explanation.baseline_token)
            (answer,) = prompt.probabilities([(ids, (level,))])
            drops.append(FULL[level] - answer[0, TARGETS[level]])
        areas.append(float(np.mean(drops)))
    return areas


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_a_beam_that_holds_every_set_finds_the_exact_bounds(count: int) -> None:
    prompt = prompt_of(count, rugged(count))
    bounds = found(prompt)
    assert len(bounds) == 2 * 2 * 2
    for (level, operator, kind), (lower, upper) in bounds.items():
        areas = areas_of_all_rankings(prompt, EXPLANATION, level, operator, kind)
        assert (lower, upper) == pytest.approx((min(areas), max(areas)), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    scores=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=6),
    beam_width=st.integers(1, 3),
)
def test_deletion_curves_and_narrow_beams_stay_within_the_exact_bounds(
    seed: int, scores: list[float], beam_width: int
) -> None:
    prompt = prompt_of(len(scores), rugged(seed))
    attributions = ATTRIBUTIONS.frame(
        [
            {
                "run_id": "r",
                "level": level,
                "example_id": "test:0",
                "method": "lime",
                "seed": 0,
                "target": TARGETS[level],
                "scores": scores,
            }
            for level in LEVELS
        ]
    )
    curves = deletion_curves(attributions, predictions(), [prompt], EXPLANATION)
    drop = pl.col("probability_full") - pl.col("probability_perturbed")
    areas = {tuple(row[:3]): row[3] for row in curves.group_by(KEY).agg(drop.mean()).iter_rows()}
    exact, narrow = found(prompt), found(prompt, beam_width)
    assert areas.keys() == exact.keys() == narrow.keys()
    for key, (lower, upper) in exact.items():
        assert lower - 1e-9 <= areas[key] <= upper + 1e-9
        assert lower - 1e-9 <= narrow[key][0] <= narrow[key][1] <= upper + 1e-9


def test_a_beam_follows_the_sets_that_promise_most_for_later_points() -> None:
    # Deleting 10 drops most for one token, deleting 11 and 12 drops most for two.
    left: dict[TokenIds, float] = {
        (11, 12, 13): 0.5,
        (10, 12, 13): 0.6,
        (10, 11, 13): 0.7,
        (10, 13): 0.0,
    }
    prompt = ExplainedPrompt(
        "test:0", (10, 11, 12, 13), Model(lambda ids, _: left.get(ids, 0.8)), tuple
    )
    explanation = Explanation(fractions=(0.25, 0.5), operators=("delete_text",))
    key = (0, "delete_text", "comprehensiveness")
    greedy = found(prompt, 1, explanation, levels=(0,))
    assert greedy[key] == pytest.approx(((0.1 + 0.1) / 2, (0.4 + 0.1) / 2))
    wider = found(prompt, 2, explanation, levels=(0,))
    assert wider[key] == pytest.approx(((0.1 + 0.1) / 2, (0.3 + 0.9) / 2))


def test_between_points_a_set_with_a_smaller_gain_may_promise_more() -> None:
    # Points at one and three tokens. Without 10 the probability drops by 0.4, without 11 by 0.3.
    # Among the next sets, only 11 with 12 drops further.
    left: dict[TokenIds, float] = {
        (11, 12, 13, 14): 0.5,
        (10, 12, 13, 14): 0.6,
        (10, 13, 14): 0.3,
        (10, 14): 0.1,
    }
    prompt = ExplainedPrompt(
        "test:0", (10, 11, 12, 13, 14), Model(lambda i, _: left.get(i, 0.9)), tuple
    )
    explanation = Explanation(fractions=(0.2, 0.6), operators=("delete_text",))
    bounds = found(prompt, 2, explanation, levels=(0,))
    assert bounds[0, "delete_text", "comprehensiveness"] == pytest.approx((0.0, (0.3 + 0.8) / 2))


def test_the_better_of_two_orders_of_a_set_counts() -> None:
    # Only the first deletion differs: 10 gains more than 11; then both are deleted.
    first: dict[TokenIds, float] = {(11, 12): 0.2, (10, 12): 0.7, (10, 11): 0.9}
    prompt = ExplainedPrompt(
        "test:0", (10, 11, 12), Model(lambda ids, _: first.get(ids, 0.4)), tuple
    )
    explanation = Explanation(fractions=(0.34, 0.67), operators=("delete_text",))
    bounds = found(prompt, 3, explanation, levels=(0,))
    assert bounds[0, "delete_text", "comprehensiveness"] == pytest.approx(
        ((0.0 + 0.5) / 2, (0.7 + 0.5) / 2)
    )


def test_each_size_is_one_call_without_repeated_prompts() -> None:
    prompt = prompt_of(6, rugged(1))
    progress: list[tuple[int, int]] = []
    aopc_bounds(
        predictions(), [prompt], LEVELS, 2, EXPLANATION, lambda *step: progress.append(step)
    )
    assert isinstance(prompt.probabilities, Model)
    calls = prompt.probabilities.calls
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(calls) == 4
    for questions in calls:
        assert len({ids for ids, _ in questions}) == len(questions)
        assert all(levels == tuple(sorted(set(levels))) for _, levels in questions)
    # The first call has the same six sets for both bounds and all levels; two leave the same text.
    assert {levels for _, levels in calls[0]} == {LEVELS}
    texts = {halved([i for i in range(10, 16) if i != gone]) for gone in range(10, 16)}
    assert {ids for ids, _ in calls[0] if len(ids) == 5} == texts
    asked = sum(len(levels) for questions in calls for _, levels in questions)
    assert asked <= max_perturbed_prompt_count([len(prompt.tokens)], 2, 2, EXPLANATION)


def test_the_maximum_prompt_count_sums_the_sets_of_all_sizes() -> None:
    explanation = Explanation(fractions=(0.5,), operators=("replace",))
    prompt = prompt_of(6, rugged(0))
    # Levels x kinds x directions; six sets of one token, then the sets that two sets grow to.
    assert max_perturbed_prompt_count([len(prompt.tokens)] * 2, 3, 2, explanation) == 2 * (
        3 * 2 * 2
    ) * (6 + 10 + 8)
    assert max_perturbed_prompt_count([len(prompt.tokens)], 1, EVERY_SET, explanation) == 2 * 2 * (
        6 + 15 + 20
    )
    assert (
        max_perturbed_prompt_count([len(prompt.tokens)], 1, 1, Explanation(fractions=(0.1,))) == 0
    )


def test_a_ranking_with_a_nan_has_no_aopc() -> None:
    def probability(ids: TokenIds, level: int) -> float:
        return math.nan if 10 in ids else rugged(5)(ids, level)

    explanation = Explanation(fractions=(0.25, 0.5), operators=("replace",))
    prompt = prompt_of(4, probability)
    bounds = found(prompt, explanation=explanation)
    for kind in ("comprehensiveness", "sufficiency"):
        areas = areas_of_all_rankings(prompt, explanation, 0, "replace", kind)
        finite = [area for area in areas if math.isfinite(area)]
        assert 0 < len(finite) < len(areas)
        assert bounds[0, "replace", kind] == pytest.approx((min(finite), max(finite)))


def test_a_narrow_beam_avoids_nan() -> None:
    prompt = ExplainedPrompt(
        "test:0",
        (10, 11, 12),
        Model(lambda ids, _: 0.4 if ids in {(11, 12), (12,)} else math.nan),
        tuple,
    )
    explanation = Explanation(fractions=(0.34, 0.67), operators=("delete_text",))
    bounds = found(prompt, 1, explanation, levels=(0,))
    assert bounds[0, "delete_text", "comprehensiveness"] == pytest.approx((0.5, 0.5))


def test_bounds_are_nan_if_no_ranking_has_an_aopc() -> None:
    bounds = found(prompt_of(4, lambda *_: math.nan))
    assert len(bounds) == 8
    assert all(math.isnan(bound) for pair in bounds.values() for bound in pair)


def test_a_prompt_too_short_for_any_fraction_has_no_bounds() -> None:
    explanation = Explanation(fractions=(0.1, 0.4))
    short = prompt_of(2, rugged(0))
    frame = aopc_bounds(predictions(), [short], LEVELS, 3, explanation)
    assert frame.schema == BOUNDS.schema
    assert frame.is_empty()
    assert isinstance(short.probabilities, Model)
    assert not short.probabilities.calls
