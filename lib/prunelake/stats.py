"""One bootstrap over examples, and the tests and intervals that stand on it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, ndtri, stdtr, stdtrit

Floats = NDArray[np.floating]
Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value, its standard error and its 95 % interval; NaN where they cannot be known."""

    value: float
    se: float
    low: float
    high: float


def resample(strata: NDArray[np.integer], replicates: int, seed: int) -> NDArray[np.float32]:
    """How often each example counts in each replicate of the bootstrap: [examples, replicates].

    Examples are drawn with replacement within their stratum, whose size is thereby kept: a run
    explains a fixed part of its examples.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((len(strata), replicates), dtype=np.float32)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        drawn = generator.integers(len(members), size=(replicates, len(members)))
        counts = [np.bincount(row, minlength=len(members)) for row in drawn]
        weights[members] = np.array(counts, dtype=np.float32).T
    return weights


def means(values: Array, weights: Floats) -> tuple[Array, Array, Array]:
    """Mean over examples of values [examples, metrics], of which NaN ones do not count.

    Returns the means [metrics], the number of examples behind each [metrics], and the means of the
    replicates [metrics, replicates]; NaN where no example counts.
    """
    known = ~np.isnan(values)
    used = known.any(axis=1)
    known, filled = known[used], np.where(known, values, 0)[used]
    drawn = weights[used]
    n = known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = filled.astype(drawn.dtype).T @ drawn
        count = known.astype(drawn.dtype).T @ drawn
        return filled.sum(axis=0) / n, n, total / count


def estimate(value: float, n: int, replicates: Floats) -> Estimate:
    """The interval of a value over n examples from its replicates: value +- t x standard error.

    The standard error is the replicates' standard deviation, corrected by n / (n - 1) in variance
    as a resample's is too small by that factor, with Student's t of n - 1 degrees of freedom: for
    a mean this is the usual t interval. Replicates in which the value does not exist are left out,
    up to a tenth of them. Without variation among the replicates nothing is known about the error.
    """
    known = replicates[~np.isnan(replicates)].astype(np.float64)
    if n < 2 or len(known) < 0.9 * len(replicates) or np.isnan(value):
        return Estimate(value, np.nan, np.nan, np.nan)
    se = known.std() * np.sqrt(n / (n - 1))
    # A constant sums to slightly different floats.
    if se <= 1e-6 * max(1e-3, abs(value)):
        return Estimate(value, np.nan, np.nan, np.nan)
    half = reach(float(se), n, 0.95)
    return Estimate(value, float(se), value - half, value + half)


def reach(se: float, n: int, confidence: float) -> float:
    """Half the width of a two-sided interval of this confidence."""
    return float(stdtrit(n - 1, (1 + confidence) / 2) * se)


def p_of_difference(delta: float, se: float, n: int) -> float:
    """Two-sided p of no paired difference: Student's t with n - 1 degrees of freedom."""
    return float(2 * stdtr(n - 1, -abs(delta) / se))


def mcnemar(lost: int, won: int) -> float:
    """Exact two-sided p of no difference between paired proportions (McNemar).

    `lost` and `won` count the examples right only before and only after.
    """
    return float(min(1.0, 2 * bdtr(min(lost, won), lost + won, 0.5)))


def tango(lost: int, won: int, n: int, confidence: float) -> tuple[float, float]:
    """Score interval of the difference of paired proportions (Tango, Statistics in Medicine 1998).

    Of (won - lost) / n. Unlike a bootstrap it knows that no discordant pair among n examples
    does not mean that there is none: with lost = won = 0 it still has width.
    """
    z = float(ndtri((1 + confidence) / 2))
    estimate = (won - lost) / n

    def statistic(delta: float) -> float:
        gap = won - lost - n * delta
        if gap == 0:
            return 0.0
        # The probability of losing, most likely under this difference: a root of a quadratic.
        b = -won - lost + (2 * n - won + lost) * delta
        c = -lost * delta * (1 - delta)
        losing = (np.sqrt(max(b * b - 8 * n * c, 0)) - b) / (4 * n)
        variance = n * (2 * losing + delta * (1 - delta))
        return float(gap / np.sqrt(variance)) if variance > 0 else float(np.copysign(np.inf, gap))

    # Falling in delta: it is z at the lower end and -z at the upper.
    low = -1.0 if statistic(-1.0) <= z else brentq(lambda d: statistic(d) - z, -1.0, estimate)
    high = 1.0 if statistic(1.0) >= -z else brentq(lambda d: statistic(d) + z, estimate, 1.0)
    return float(low), float(high)
