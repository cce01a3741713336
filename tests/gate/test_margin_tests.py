"""The tests at a margin: scipy on the raw examples, and error rates by simulation."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, ttest_1samp

from prunelake.analysis.sequential import LookTimes, nominal_level
from prunelake.analysis.statistics import tango_interval
from prunelake.gate.margin_tests import (
    CountSample,
    MeanSample,
    PairedCounts,
    SampleAtLook,
    holm_adjusted,
    worse_p_value,
)

MARGIN = 0.05


def mean_sample(losses: np.ndarray) -> MeanSample:
    n = len(losses)
    return MeanSample(n, float(losses.mean()), float(losses.std(ddof=1) / n**0.5))


def test_each_test_matches_scipy() -> None:
    losses = np.random.default_rng(0).normal(0.06, 0.2, 80)
    expected = ttest_1samp(losses, MARGIN, alternative="greater").pvalue
    assert mean_sample(losses).p_value(MARGIN) == pytest.approx(expected)
    for count in (0, 1, 5, 12, 80):
        expected = binomtest(count, 80, MARGIN, alternative="greater").pvalue
        assert CountSample(80, count).p_value(MARGIN) == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.8, 0.999))
def test_the_test_of_accuracy_agrees_with_its_interval(
    lost: int, won: int, confidence: float
) -> None:
    low, high = tango_interval(lost, won, 300, confidence)
    # At an end of the interval the p-value is the error of this end.
    p_value = PairedCounts(300, lost, won).p_value(-high)
    assert p_value == pytest.approx((1 - confidence) / 2, abs=1e-6)
    assert PairedCounts(300, lost, won).p_value(-low) >= (1 + confidence) / 2 - 1e-6


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(p_values: Sequence[float]) -> None:
    """A hypothesis is rejected if Bonferroni rejects every set of hypotheses that contains it."""
    count = len(p_values)
    sets = [s for size in range(1, count + 1) for s in combinations(range(count), size)]
    expected = [
        max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if index in s)
        for index in range(count)
    ]
    assert holm_adjusted(p_values) == pytest.approx(expected)


def test_several_looks_reject_where_one_of_them_crosses_its_boundary() -> None:
    times = (0.25, 0.5, 1.0)
    generator = np.random.default_rng(1)
    for _ in range(20):
        scores = generator.normal(1.2, 1, 3)
        looks = [
            SampleAtLook(MeanSample(10**6, score, 1.0), LookTimes(times[: k + 1]))
            for k, score in enumerate(scores)
        ]
        for alpha in (0.05, 0.01):
            levels = [nominal_level(times[: k + 1], alpha) for k in range(3)]
            is_rejected = bool((norm.sf(scores) <= levels).any())
            assert (worse_p_value(looks, 0.0) <= alpha) == is_rejected
    assert worse_p_value([], 0.0) == 1.0
    assert worse_p_value([SampleAtLook(MeanSample(9, 5.0, 0.1), LookTimes(()))], 0.0) == 1.0
