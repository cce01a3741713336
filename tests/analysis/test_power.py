"""Power and numbers of examples: oracles are scipy, enumeration and simulated studies."""

import numpy as np
import pytest
from scipy.stats import binom, multinomial, nct, norm
from scipy.stats import t as student

from prunelake.analysis.power import (
    PairedSpread,
    examples_for_changes_between,
    examples_for_share,
    examples_needed,
    right_verdict_power,
)
from prunelake.analysis.statistics import mcnemar_p_value, tango_interval


def power_at(n: int, change: float, spread: PairedSpread, margin: float = 0.02) -> float:
    return float(right_verdict_power(np.array([float(n)]), np.array([change]), spread, margin)[0])


def simulated_verdicts(n: int, change: float, sd: float, margin: float, count: int) -> float:
    """The share of simulated studies whose verdict is right, by Student's tests."""
    generator = np.random.default_rng(7)
    differences = generator.normal(change, sd, (count, n))
    mean, error = differences.mean(axis=1), differences.std(axis=1, ddof=1) / np.sqrt(n)
    half = student.ppf(0.95, n - 1) * error
    is_equivalent = (mean - half > -margin) & (mean + half < margin)
    is_significant = mean / error > student.ppf(0.975, n - 1)
    right = (is_equivalent & (change < margin)) | (is_significant & (change > 0))
    return float(right.mean())


@pytest.mark.parametrize("n", [12, 60, 200])
@pytest.mark.parametrize("change", [0.0, 0.01, 0.02, 0.05])
def test_the_power_equals_simulated_studies(n: int, change: float) -> None:
    spread = PairedSpread(0.1)
    simulated = simulated_verdicts(n, change, 0.1, 0.02, 4000)
    # Five Monte Carlo errors, and the error of normal theory at a dozen examples.
    assert power_at(n, change, spread) == pytest.approx(simulated, abs=0.04 + 0.2 / n)


def test_without_a_change_and_at_the_margin_the_numbers_equal_the_textbook() -> None:
    unchanged, at_margin = examples_needed(PairedSpread(0.3), [0.0, 0.02], 0.02, 0.8)
    z = norm.ppf
    assert unchanged == pytest.approx((0.3 * (z(0.95) + z(0.9)) / 0.02) ** 2, rel=0.005)
    assert at_margin == pytest.approx((0.3 * (z(0.975) + z(0.8)) / 0.02) ** 2, rel=0.005)


def test_the_cost_of_a_small_pilot_follows_the_noncentral_t_distribution() -> None:
    """Julious and Owen (2006): the expected power over the error of the pilot is as planned."""
    (needed,) = examples_needed(PairedSpread(0.2, degrees=9), [0.0], 0.02, 0.8)
    factor = nct.ppf(0.9, 9, norm.ppf(0.95))
    assert needed == pytest.approx((0.2 * factor / 0.02) ** 2, rel=0.02)


def test_the_excess_of_an_interval_counts_as_width() -> None:
    n, excess = 400, 0.1
    limit = 0.02 - (student.ppf(0.95, n - 1) * 0.1 + excess) / np.sqrt(n)
    expected = 2 * norm.cdf(limit * np.sqrt(n) / 0.1) - 1
    assert power_at(n, 0.0, PairedSpread(0.1, excess)) == pytest.approx(expected)


def exact_accuracy_power(n: int, discordant: float, change: float, margin: float) -> float:
    """The probability of a right verdict by McNemar and Tango, over all likely outcomes."""
    shares = [(discordant - change) / 2, (discordant + change) / 2, 1 - discordant]
    counts = np.array([(lost, won) for lost in range(n + 1) for won in range(n + 1 - lost)])
    chances = multinomial.pmf(np.column_stack([counts, n - counts.sum(axis=1)]), n, shares)
    total = 0.0
    for (lost, won), chance in zip(counts[chances > 1e-5], chances[chances > 1e-5], strict=True):
        low, high = tango_interval(int(lost), int(won), n, 0.9)
        is_equivalent = change < margin and low > -margin and high < margin
        is_significant = change > 0 and won > lost and mcnemar_p_value(int(lost), int(won)) <= 0.05
        total += chance * (is_equivalent or is_significant)
    return total


@pytest.mark.parametrize(
    ("n", "discordant", "change"),
    [(180, 0.2, 0.0), (120, 0.2, 0.0), (80, 0.2, 0.1), (60, 0.3, 0.2), (100, 0.02, 0.0)],
)
def test_the_power_of_accuracy_is_not_above_that_of_all_outcomes_and_near_it(
    n: int, discordant: float, change: float
) -> None:
    spread = PairedSpread(np.sqrt(discordant), is_proportion=True)
    expected = exact_accuracy_power(n, discordant, change, 0.1)
    assert expected - 0.07 < power_at(n, change, spread, 0.1) < expected + 0.02


def test_without_discordant_examples_the_number_follows_tangos_interval() -> None:
    (needed,) = examples_needed(PairedSpread(0.0, is_proportion=True), [0.0], 0.02, 0.8)
    assert tango_interval(0, 0, needed, 0.9)[1] < 0.02
    assert tango_interval(0, 0, needed - 4, 0.9)[1] > 0.02


def test_the_number_for_any_change_covers_every_change() -> None:
    spread = PairedSpread(0.2)
    needed = examples_for_changes_between(-1.0, 1.0, spread, 0.02)
    for change in np.linspace(0, 0.04, 17):
        assert power_at(needed, change, spread) > 0.795
    assert needed == examples_needed(spread, list(np.linspace(0, 0.02, 21)), 0.02).max()


def test_a_pilot_that_excludes_small_changes_needs_fewer_examples() -> None:
    spread = PairedSpread(0.2)
    (clear,) = examples_needed(spread, [0.1], 0.02)
    assert examples_for_changes_between(-0.3, -0.1, spread, 0.02) == clear
    assert clear < examples_for_changes_between(-0.3, -0.01, spread, 0.02)
    assert examples_for_changes_between(-0.005, 0.001, spread, 0.02) < (
        examples_for_changes_between(-0.02, 0.001, spread, 0.02)
    )


@pytest.mark.parametrize(
    ("rate", "margin"), [(0.0, 0.05), (0.02, 0.05), (0.04, 0.05), (0.09, 0.05), (0.3, 0.1)]
)
def test_the_exact_test_of_a_share_keeps_its_power_from_this_number_on(
    rate: float, margin: float
) -> None:
    needed = examples_for_share(rate, margin, 0.8)
    assert needed is not None

    def power(n: int) -> float:
        counts = np.arange(n + 1)
        if rate < margin:
            rejects = binom.cdf(counts, n, margin) <= 0.05
        else:
            rejects = binom.sf(counts - 1, n, margin) <= 0.05
        return float(binom.pmf(counts, n, rate)[rejects].sum())

    assert power(needed - 1) < 0.8
    assert min(power(n) for n in range(needed, needed + 150)) >= 0.8


def test_near_its_margin_a_share_needs_many_examples_and_at_its_margin_no_number_suffices() -> None:
    # On both sides of the limit of the exact calculation.
    exact, approximate = (examples_for_share(rate, 0.05) or 0 for rate in (0.0446, 0.0447))
    assert 9_500 < exact < 10_000 < approximate < 10_500
    assert examples_for_share(0.05, 0.05) is None
