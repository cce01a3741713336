"""Correlations over levels: the oracles are scipy and pingouin, and intervals worked by hand."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr, spearmanr

from prunelake.analysis.correlation import (
    CORRELATION_KINDS,
    MIN_CORRELATION_LEVELS,
    correlations,
    interval,
    reliabilities,
)

Array = NDArray[np.float64]

without_deadline = settings(deadline=None)  # a busy machine may be slow
values = st.one_of(st.sampled_from([-0.25, 0.0, 0.125, 0.5]), st.floats(-1, 1))


@st.composite
def series(draw: st.DrawFn) -> tuple[Array, Array, Array]:
    """Levels with gaps, and two series with ties, some of them constant."""
    levels = sorted(draw(st.sets(st.integers(0, 20), min_size=3, max_size=9)))
    row = st.lists(values, min_size=len(levels), max_size=len(levels))
    rows = np.round(np.array([draw(row), draw(row)]), 9)
    return np.array(levels, dtype=float), rows[0][:, None], rows[1][:, None]


def is_constant(column: Array) -> bool:
    return len(np.unique(column)) == 1


@without_deadline
@given(series())
def test_correlations_equal_scipy(given: tuple[Array, Array, Array]) -> None:
    levels, accuracy, metric = given
    result = correlations(levels, accuracy, metric)
    assert tuple(result) == CORRELATION_KINDS
    for kind, function in (
        ("pearson", pearsonr),
        ("spearman", spearmanr),
        ("kendall", kendalltau),
    ):
        if is_constant(accuracy) or is_constant(metric):
            assert np.isnan(result[kind][0])
        else:
            expected = function(accuracy[:, 0], metric[:, 0]).statistic
            assert result[kind][0] == pytest.approx(expected, abs=1e-7)


@without_deadline
@given(st.integers(5, 12), st.integers(0, 2**32 - 1))
def test_the_partial_correlation_equals_pingouin(count: int, seed: int) -> None:
    import pingouin

    levels = np.arange(float(count)) * 2
    accuracy, metric = np.random.default_rng(seed).normal(size=(2, count)).round(1)
    frame = pl.DataFrame({"level": levels, "x": accuracy, "y": metric}).to_pandas()
    expected = pingouin.partial_corr(frame, "x", "y", "level")["r"].iloc[0]
    (result,) = correlations(levels, accuracy[:, None], metric[:, None])["partial"]
    assert result == pytest.approx(expected, abs=1e-9)


def test_a_straight_line_in_the_level_leaves_no_partial_correlation() -> None:
    levels = np.arange(6.0)
    bent = (levels**2)[:, None]
    assert np.isnan(correlations(levels, 0.6 - 0.01 * levels[:, None], bent)["partial"][0])
    assert np.isnan(correlations(levels[:3], bent[:3], -bent[:3])["partial"][0])
    # Both series fall, but where one lies above its straight line the other lies below.
    fallen = 1 - 0.1 * levels[:, None] - 0.002 * bent
    metric = 1 - 0.1 * levels[:, None] + 0.002 * bent
    result = correlations(levels, fallen, metric)
    assert result["pearson"][0] > 0.9
    assert result["partial"][0] == pytest.approx(-1)


def test_pairs_of_series_do_not_affect_each_other() -> None:
    generator = np.random.default_rng(0)
    accuracy, metric = generator.normal(size=(2, 7, 5))
    metric[:, 2] = 0.5
    together = correlations(np.arange(7.0), accuracy, metric)
    for k in range(5):
        alone = correlations(np.arange(7.0), accuracy[:, [k]], metric[:, [k]])
        for kind in CORRELATION_KINDS:
            assert together[kind][k] == pytest.approx(alone[kind][0], nan_ok=True)
    assert np.flatnonzero(np.isnan(together["pearson"])).tolist() == [2]


def test_rounding_errors_do_not_decide_ranks() -> None:
    accuracy = np.array([[0.5], [0.4], [0.3], [0.2]])
    constant = np.array([[0.1], [0.1 + 1e-16], [0.1 + 2e-16], [0.1 + 3e-16]])
    result = correlations(np.arange(4.0), accuracy, constant)
    assert all(np.isnan(result[kind][0]) for kind in CORRELATION_KINDS)


def test_the_interval_is_symmetric_and_covers_the_value_without_its_bias() -> None:
    generator = np.random.default_rng(0)
    replicates = 0.1 + 0.05 * generator.standard_normal(100_000)  # noise pulled them from 0.2
    low, high = interval(0.2, replicates, reliability=1)
    # The interval covers 0.2 and the value without its bias, which is (mean of the replicates -
    # value) / (sqrt(2) - 1).
    corrected = 0.2 + (0.2 - replicates.mean()) / (np.sqrt(2) - 1)
    assert 0.2 - low == pytest.approx(high - corrected)
    assert np.mean(np.abs(replicates - 0.2) <= 0.2 - low) == pytest.approx(0.95, abs=1e-4)
    # The quantiles of the replicates would exclude the value.
    assert np.quantile(replicates, 0.975) < 0.2


def test_noise_widens_the_interval_up_to_minus_1_to_1() -> None:
    replicates = np.tile([0.2, 0.4], 50)
    widths = [np.ptp(interval(0.3, replicates, share)) for share in (1.0, 0.5, 0.2)]
    assert widths == pytest.approx([0.2, 0.4, 1.0])
    assert interval(0.3, replicates, 0.0) == (-1, 1)


def test_the_reliability_is_the_share_of_the_variance_that_is_not_noise() -> None:
    generator = np.random.default_rng(0)
    levels = np.arange(200.0)
    truth = np.sin(levels)
    accuracy = truth + 0.5 * generator.standard_normal(200)
    replicates = accuracy[:, None] + 0.5 * generator.standard_normal((200, 300))
    series = np.column_stack([accuracy, replicates])
    certain = np.repeat(truth[:, None], 301, axis=1)
    result = reliabilities(levels, certain, series)
    assert result["pearson"] == result["kendall"] == pytest.approx(0.5 / 0.75, abs=0.05)
    assert result["partial"] == pytest.approx(
        result["pearson"], abs=0.02
    )  # the series have no slope
    assert reliabilities(levels, certain, certain)["pearson"] == 1
    # The levels differ by a slope only, and the residuals from it are noise.
    sloped = series * 0.01 + 0.1 * levels[:, None]
    noise = 0.01 * (series - truth[:, None]) + 0.1 * levels[:, None]
    assert reliabilities(levels, sloped, noise)["pearson"] > 0.99
    assert reliabilities(levels, sloped, noise)["partial"] < 0.2
    assert reliabilities(levels, certain, certain[:, :1] + 0 * levels[:, None])["pearson"] == 0


def test_the_interval_stays_between_minus_1_and_1() -> None:
    assert interval(0.9, np.array([0.5] * 20), 1) == pytest.approx((0.5, 1))
    assert interval(-0.9, np.array([-0.5] * 20), 1) == pytest.approx((-1, -0.5))


def test_the_interval_is_unknown_if_too_many_replicates_are_unknown() -> None:
    assert np.isnan(interval(0.3, np.array([0.2, 0.4] * 8 + [np.nan] * 4), 1)).all()
    assert not np.isnan(interval(0.3, np.array([0.2, 0.4] * 9 + [np.nan] * 2), 1)).any()


def test_a_correlation_needs_three_levels() -> None:
    assert MIN_CORRELATION_LEVELS == 3
