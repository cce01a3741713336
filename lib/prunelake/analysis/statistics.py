"""One bootstrap over examples, and the tests and intervals that stand on it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, ndtri, stdtr, stdtrit

from prunelake.schema.arrays import AnyFloatArray, FloatArray


class Estimate(NamedTuple):
    """A value over `n` examples, and its standard error: NaN where it cannot be known."""

    value: float
    n: int
    se: float

    def interval(self, confidence: float, *biases: float) -> tuple[float, float]:
        """Two-sided, by Student's t with n - 1 degrees of freedom; NaN where the error is.

        It reaches about what the value is, and would be without each of these biases.
        """
        half = float(stdtrit(self.n - 1, (1 + confidence) / 2) * self.se)
        values = [self.value, *(self.value - bias for bias in biases)]
        return min(values) - half, max(values) + half


def bootstrap_weights(
    strata: NDArray[np.integer], replicates: int, seed: int
) -> NDArray[np.float32]:
    """How often each example counts in each replicate of the bootstrap: [examples, replicates].

    Examples are drawn with replacement within their stratum, whose size is thereby kept: a run
    explains a fixed part of its examples.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((len(strata), replicates), dtype=np.float32)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        for replicate in range(replicates):  # one at a time: all draws would fill the memory
            drawn = generator.integers(len(members), size=len(members))
            weights[members, replicate] = np.bincount(drawn, minlength=len(members))
    return weights


def bootstrap_means(
    values: FloatArray, weights: AnyFloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean over examples of values [examples, metrics], of which NaN ones do not count.

    Returns the means [metrics], the number of examples behind each [metrics], and the means of the
    replicates [metrics, replicates]; NaN where no example counts.
    """
    known = ~np.isnan(values)
    used = known.any(axis=1)
    known, filled = known[used], np.where(known, values, 0)[used]
    drawn = weights if used.all() else weights[used]
    n = known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = filled.astype(drawn.dtype).T @ drawn
        count = known.astype(drawn.dtype).T @ drawn
        return filled.sum(axis=0) / n, n, total / count


def bootstrap_estimate(value: float, n: int, replicates: AnyFloatArray) -> Estimate:
    """A value over n examples with its standard error from its replicates.

    That is the replicates' standard deviation, corrected by n / (n - 1) in variance as a resample's
    is too small by that factor: the interval of a mean is the usual t interval. Replicates in which
    the value does not exist are left out, up to a tenth of them. Without variation among the
    replicates nothing is known about the error.
    """
    known = replicates[~np.isnan(replicates)].astype(np.float64)
    if n < 2 or len(known) < 0.9 * len(replicates) or np.isnan(value):
        return Estimate(value, n, np.nan)
    se = float(known.std() * np.sqrt(n / (n - 1)))
    # A constant sums to slightly different floats.
    return Estimate(value, n, se if se > 1e-6 * max(1e-3, abs(value)) else np.nan)


def bias_bound(value: float, replicates: AnyFloatArray) -> float:
    """The most that a value can lie off its truth on average; 0 where its replicates are unknown.

    A resample adds its own noise to that of the sample, so that its spread grows by the root of 2.
    Where noise alone makes a value (the error of what is calibrated, the ranks of equals), the
    value is off in proportion to the spread, and a resample by as much again less 1: the bias is
    1 / (sqrt(2) - 1) times what the mean of the replicates lies off the value. Where the value is
    more than noise it is less.
    """
    known = replicates[~np.isnan(replicates)].astype(np.float64)
    if np.isnan(value) or not len(known):
        return 0.0
    return float((known.mean() - value) / (np.sqrt(2) - 1))


def paired_t_p_value(delta: float, se: float, n: int) -> float:
    """Two-sided p of no paired difference: Student's t with n - 1 degrees of freedom."""
    return float(2 * stdtr(n - 1, -abs(delta) / se))


def mcnemar_p_value(lost: int, won: int) -> float:
    """Exact two-sided p of no difference between paired proportions (McNemar).

    `lost` and `won` count the examples right only before and only after.
    """
    return float(min(1.0, 2 * bdtr(min(lost, won), lost + won, 0.5)))


def tango_interval(lost: int, won: int, n: int, confidence: float) -> tuple[float, float]:
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
