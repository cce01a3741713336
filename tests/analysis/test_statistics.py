"""Resampling, intervals and tests: oracles are scipy, statsmodels and enumerated outcomes."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from scipy.stats import binomtest, multinomial, norm, ttest_1samp, ttest_rel
from statsmodels.stats.contingency_tables import mcnemar

from prunelake.analysis import statistics

without_deadline = settings(deadline=None)  # a busy machine may be slow


def test_resamples_keep_the_size_of_each_stratum_and_depend_only_on_the_seed() -> None:
    strata = np.array([0, 1, 0, 0, 1, 1, 1, 0, 2])
    weights = statistics.bootstrap_weights(strata, 50, seed=3)
    assert weights.shape == (9, 50)
    for stratum, size in ((0, 4), (1, 4), (2, 1)):
        assert (weights[strata == stratum].sum(axis=0) == size).all()
    assert len(np.unique(weights, axis=1).T) > 40
    assert (weights == statistics.bootstrap_weights(strata, 50, seed=3)).all()
    assert (weights != statistics.bootstrap_weights(strata, 50, seed=4)).any()


def test_every_example_is_drawn_equally_often() -> None:
    weights = statistics.bootstrap_weights(np.zeros(20, dtype=int), 5000, seed=0)
    # Binomial of 20 draws at 1/20 each: mean 1 and variance 0.95.
    assert weights.mean(axis=1) == pytest.approx(1, abs=5 * np.sqrt(0.95 / 5000))
    assert weights.var() == pytest.approx(0.95, abs=0.05)


values = st.one_of(st.just(np.nan), st.floats(-10, 10), st.sampled_from([0.0, 1.0]))


@st.composite
def resampled_tables(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    row = st.lists(values, min_size=columns, max_size=columns)
    table = draw(st.lists(row, min_size=rows, max_size=rows))
    return table, draw(st.lists(st.integers(0, rows - 1), min_size=rows, max_size=rows))


@without_deadline
@given(resampled_tables())
def test_means_equal_the_repeated_rows(
    given: tuple[list[list[float]], list[int]],
) -> None:
    table, picked = np.array(given[0]), given[1]
    weights = np.bincount(picked, minlength=len(table))[:, None].astype(np.float32)
    mean, n, replicates = statistics.bootstrap_means(table, weights)
    for k, column in enumerate(table.T):
        known = column[~np.isnan(column)]
        repeated = column[picked][~np.isnan(column[picked])]
        assert n[k] == len(known)
        assert mean[k] == pytest.approx(known.mean() if len(known) else np.nan, nan_ok=True)
        expected = repeated.mean() if len(repeated) else np.nan
        assert replicates[k, 0] == pytest.approx(expected, abs=1e-4, nan_ok=True)


@pytest.mark.parametrize("n", [5, 50])
def test_the_interval_of_a_mean_equals_students_t_interval(n: int) -> None:
    sample = np.random.default_rng(n).gamma(2, size=n)
    weights = statistics.bootstrap_weights(np.zeros(n, dtype=int), 40_000, seed=1)
    mean, _, replicates = statistics.bootstrap_means(sample[:, None], weights)
    estimate = statistics.bootstrap_estimate(float(mean[0]), n, replicates[0])
    low, high = estimate.interval(0.95)
    expected = ttest_1samp(sample, 0).confidence_interval(0.95)
    # The standard deviation of 40,000 replicates is accurate to 0.35 % for normal values.
    assert estimate.se == pytest.approx(sample.std(ddof=1) / np.sqrt(n), rel=0.02)
    assert (high - low) == pytest.approx(expected.high - expected.low, rel=0.02)
    assert (high + low) / 2 == pytest.approx(sample.mean())


@pytest.mark.parametrize(
    ("value", "n", "replicates"),
    [
        (0.5, 1, [0.4, 0.5, 0.6]),  # a single example
        (0.5, 9, [0.5] * 20),  # no variation
        (0.5, 9, [0.5, 0.5 + 1e-8] * 10),  # only rounding errors vary
        (np.nan, 9, [0.4, 0.5, 0.6]),  # the sample has no value
        (0.5, 9, [0.4, 0.6] * 8 + [np.nan] * 4),  # a fifth of the replicates have no value
    ],
)
def test_an_unknown_standard_error_is_nan(value: float, n: int, replicates: list[float]) -> None:
    estimate = statistics.bootstrap_estimate(value, n, np.array(replicates))
    assert estimate.value == value or np.isnan(value)
    assert np.isnan([estimate.se, *estimate.interval(0.95)]).all()


def test_a_tenth_of_the_replicates_may_lack_a_value() -> None:
    estimate = statistics.bootstrap_estimate(0.5, 9, np.array([0.4, 0.6] * 9 + [np.nan] * 2))
    assert estimate.se == pytest.approx(0.1 * np.sqrt(9 / 8))


def test_the_interval_covers_the_value_without_its_bias() -> None:
    estimate = statistics.Estimate(0.5, 9, 0.1)
    low, high = estimate.interval(0.95)
    assert estimate.interval(0.95, 0.2) == pytest.approx((low - 0.2, high))
    assert estimate.interval(0.95, -0.2) == pytest.approx((low, high + 0.2))
    assert estimate.interval(0.95, -0.2, 0.1) == pytest.approx((low - 0.1, high + 0.2))


def test_the_bias_bound_of_pure_noise_is_the_whole_value() -> None:
    # The expected |mean| of 100 standard normal values is 0.0798, while the true mean is 0.
    generator = np.random.default_rng(0)
    biases, errors = [], []
    for seed in range(60):
        sample = generator.standard_normal((100, 1))
        weights = statistics.bootstrap_weights(np.zeros(100, dtype=int), 500, seed)
        mean, _, replicates = statistics.bootstrap_means(sample, weights)
        errors.append(abs(float(mean[0])))
        biases.append(statistics.bias_bound(errors[-1], np.abs(replicates[0])))
    assert np.mean(errors) == pytest.approx(0.0798, abs=0.02)
    assert np.mean(biases) == pytest.approx(np.mean(errors), abs=0.02)


def test_a_mean_has_no_bias() -> None:
    sample = np.random.default_rng(0).standard_normal((100, 1))
    weights = statistics.bootstrap_weights(np.zeros(100, dtype=int), 5000, 0)
    mean, _, replicates = statistics.bootstrap_means(sample, weights)
    assert abs(statistics.bias_bound(float(mean[0]), replicates[0])) < 0.1 * replicates.std()
    assert statistics.bias_bound(np.nan, replicates[0]) == 0
    assert statistics.bias_bound(0.5, np.array([np.nan])) == 0


@without_deadline
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_p_value_of_a_difference_equals_the_paired_t_test(n: int, seed: int) -> None:
    before, after = np.random.default_rng(seed).normal(size=(2, n))
    difference = after - before
    se = difference.std(ddof=1) / np.sqrt(n)
    p_value = statistics.paired_t_p_value(float(difference.mean()), float(se), n)
    assert p_value == pytest.approx(ttest_rel(after, before).pvalue, abs=1e-12)
    low, high = ttest_rel(after, before).confidence_interval(0.9)
    interval = statistics.Estimate(float(difference.mean()), n, float(se)).interval(0.9)
    assert interval == pytest.approx((low, high))


@pytest.mark.parametrize(("count", "n"), [(0, 7), (7, 7), (1, 1), (3, 40), (50, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_exact_interval_of_a_share_equals_scipy(count: int, n: int, confidence: float) -> None:
    expected = binomtest(count, n).proportion_ci(confidence, method="exact")
    assert statistics.exact_interval(count, n, confidence) == pytest.approx((*expected,))


@without_deadline
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_mcnemar_p_value_equals_statsmodels(lost: int, won: int) -> None:
    expected = mcnemar([[5, lost], [won, 7]], exact=True).pvalue
    assert statistics.mcnemar_p_value(lost, won) == pytest.approx(expected)


@st.composite
def paired_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 60))
    lost = draw(st.integers(0, n))
    return lost, draw(st.integers(0, n - lost)), n


@without_deadline
@given(paired_counts(), st.sampled_from([0.9, 0.95]))
def test_the_ends_of_tangos_interval_satisfy_the_score_equation(
    given: tuple[int, int, int], confidence: float
) -> None:
    lost, won, n = given
    low, high = statistics.tango_interval(lost, won, n, confidence)
    estimate = (won - lost) / n
    assert -1 <= low <= estimate <= high <= 1
    z = norm.ppf((1 + confidence) / 2)
    for end in (low, high):
        if abs(end) < 0.999:
            assert abs(_score(lost, won, n, end)) == pytest.approx(z, rel=1e-3)
    # Swapping losses and wins mirrors the interval.
    assert statistics.tango_interval(won, lost, n, confidence) == pytest.approx(
        (-high, -low), abs=1e-9
    )


def _score(lost: int, won: int, n: int, delta: float) -> float:
    """The score statistic; its variance uses the most likely share of losses, found by search."""

    def unlikely(losing: float) -> float:
        winning = losing + delta
        same = max(1 - losing - winning, 0.0)
        likelihood = xlogy(lost, losing) + xlogy(won, winning) + xlogy(n - lost - won, same)
        return float(-likelihood)

    ends = max(0.0, -delta), (1 - delta) / 2
    best = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12})
    losing = min((*ends, best.x), key=unlikely)
    variance = 2 * losing + delta - delta**2
    return float((won - lost - n * delta) / np.sqrt(n * variance))


def test_no_change_among_few_examples_gives_a_wide_interval() -> None:
    low, high = statistics.tango_interval(0, 0, 20, 0.9)
    assert high == pytest.approx(-low)
    assert high == pytest.approx(1.645**2 / (20 + 1.645**2), rel=1e-3)  # Wilson's score interval


@pytest.mark.parametrize(("n", "margin"), [(40, 0.2), (60, 0.2), (90, 0.1)])
def test_two_one_sided_tests_err_in_5_percent_of_the_cases(n: int, margin: float) -> None:
    outcomes = [(lost, won) for lost, won in product(range(n + 1), repeat=2) if lost + won <= n]
    # An interval that covers its estimate can lie within the margin only if the estimate does.
    near = [(lost, won) for lost, won in outcomes if abs(won - lost) / n < margin]
    stable = []
    for lost, won in near:
        low, high = statistics.tango_interval(lost, won, n, confidence=0.9)
        if low > -margin and high < margin:
            stable.append((lost, won, n - lost - won))
    assert stable
    rates = [
        multinomial.pmf(stable, n, [won + margin, won, 1 - margin - 2 * won]).sum()
        for won in np.linspace(0, (1 - margin) / 2, 60)
    ]
    # 5 % is exact to first order; the worst case over all true probabilities is slightly higher.
    assert 0.02 < max(rates) <= 0.06


@without_deadline
@given(paired_counts())
def test_a_higher_confidence_gives_a_wider_interval(given: tuple[int, int, int]) -> None:
    low, high = statistics.tango_interval(*given, confidence=0.9)
    wider_low, wider_high = statistics.tango_interval(*given, confidence=0.95)
    assert wider_low <= low
    assert high <= wider_high
