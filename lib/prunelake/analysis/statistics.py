"""Resampling of examples, and the intervals and tests that follow from it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, betaincinv, ndtri, stdtr, stdtrit

from prunelake.schema.arrays import AnyFloatArray, FloatArray

CONFIDENCE_LEVEL = 0.95
"""The confidence of reported intervals."""

SIGNIFICANCE_LEVEL = 0.05
"""The largest p-value of a change that counts as shown."""

EQUIVALENCE_CONFIDENCE_LEVEL = 0.9
"""The confidence of the interval that lies within a margin if two one-sided tests at 5 % pass."""

MIN_DEFINED_SHARE = 0.9
"""The share of the replicates that must have a value; otherwise there is no interval."""


class Estimate(NamedTuple):
    """A value over `n` examples and its standard error, which is NaN where it is unknown."""

    value: float
    n: int
    se: float

    def interval(self, confidence: float, *biases: float) -> tuple[float, float]:
        """The two-sided interval by Student's t with n - 1 degrees of freedom.

        The interval covers the value with and without each bias. NaN where `se` is NaN.
        """
        half_width = float(stdtrit(self.n - 1, (1 + confidence) / 2) * self.se)
        centres = [self.value, *(self.value - bias for bias in biases)]
        return min(centres) - half_width, max(centres) + half_width


def bootstrap_weights(
    strata: NDArray[np.integer], replicates: int, seed: int
) -> NDArray[np.float32]:
    """How often each replicate of the bootstrap draws each example: [examples, replicates].

    `strata` [examples] numbers the stratum of each example. Examples are drawn with replacement
    within their stratum, so that each stratum keeps its size: a run explains a fixed number of its
    examples.
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
    """The mean of each column of `values` [examples, columns], ignoring NaN.

    Returns the means [columns], the number of examples in each mean [columns], and the means of the
    replicates [columns, replicates]. A mean over no example is NaN.
    """
    known = ~np.isnan(values)
    used = known.any(axis=1)
    known, filled = known[used], np.where(known, values, 0)[used]
    used_weights = weights if used.all() else weights[used]
    n = known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        total = filled.astype(used_weights.dtype).T @ used_weights
        count = known.astype(used_weights.dtype).T @ used_weights
        return filled.sum(axis=0) / n, n, total / count


def bootstrap_estimate(value: float, n: int, replicates: AnyFloatArray) -> Estimate:
    """A value over `n` examples with its standard error from its `replicates` [replicates].

    The standard error is the standard deviation of the replicates times sqrt(n / (n - 1)), because
    the variance of a resample is too small by (n - 1) / n. With it, the interval of a mean is the
    usual t interval. Replicates without a value (NaN) are ignored, up to a tenth of them. The error
    is unknown if the replicates do not vary.
    """
    known = replicates[~np.isnan(replicates)].astype(np.float64)
    if n < 2 or len(known) < MIN_DEFINED_SHARE * len(replicates) or np.isnan(value):
        return Estimate(value, n, np.nan)
    se = float(known.std() * np.sqrt(n / (n - 1)))
    # A constant sums to slightly different floats.
    return Estimate(value, n, se if se > 1e-6 * max(1e-3, abs(value)) else np.nan)


def bias_bound(value: float, replicates: AnyFloatArray) -> float:
    """The largest possible bias of a value, in its unit; 0 if its replicates are unknown.

    `replicates` is [replicates]. A resample adds its own noise to the noise of the sample, so that
    its spread grows by sqrt(2). Where a value is only noise (the calibration error of a calibrated
    model, the ranks of equal values), its bias is proportional to the spread, and a resample adds
    sqrt(2) - 1 times that bias. The bias is then (mean of the replicates - value) / (sqrt(2) - 1).
    Where the value is more than noise, the bias is smaller.
    """
    known = replicates[~np.isnan(replicates)].astype(np.float64)
    if np.isnan(value) or not len(known):
        return 0.0
    return float((known.mean() - value) / (np.sqrt(2) - 1))


def paired_t_p_value(delta: float, se: float, n: int) -> float:
    """The two-sided p-value of a paired difference: Student's t with n - 1 degrees of freedom."""
    return float(2 * stdtr(n - 1, -abs(delta) / se))


def exact_interval(count: int, n: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a share, `count` of `n` examples (Clopper and Pearson, 1934).

    Each end is the limit of a one-sided binomial test at (1 - confidence) / 2.
    """
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else betaincinv(count, n - count + 1, tail)
    high = 1.0 if count == n else betaincinv(count + 1, n - count, 1 - tail)
    return float(low), float(high)


def mcnemar_p_value(lost: int, won: int) -> float:
    """The exact two-sided p-value of a difference between paired proportions (McNemar).

    `lost` counts the examples that are right only before, `won` those that are right only after.
    """
    return float(min(1.0, 2 * bdtr(min(lost, won), lost + won, 0.5)))


def tango_interval(lost: int, won: int, n: int, confidence: float) -> tuple[float, float]:
    """The score interval of (won - lost) / n, a difference of paired proportions.

    Source: Tango, Statistics in Medicine 1998. A bootstrap of lost = won = 0 has no width; this
    interval has one, because n examples without a change do not rule out a change.
    """
    z = float(ndtri((1 + confidence) / 2))
    estimate = (won - lost) / n

    def score(delta: float) -> float:
        return tango_score(lost, won, n, delta)

    # The score falls as delta grows: it is z at the lower end and -z at the upper end.
    low = -1.0 if score(-1.0) <= z else brentq(lambda delta: score(delta) - z, -1.0, estimate)
    high = 1.0 if score(1.0) >= -z else brentq(lambda delta: score(delta) + z, estimate, 1.0)
    return float(low), float(high)


def tango_score(lost: int, won: int, n: int, delta: float) -> float:
    """The score statistic of the hypothesis that (won - lost) / n estimates `delta`.

    It is standard normal under the hypothesis, and negative if the estimate is smaller (Tango,
    Statistics in Medicine 1998).
    """
    gap = won - lost - n * delta
    if gap == 0:
        return 0.0
    # The most likely share of lost examples under this difference: the root of a quadratic.
    b = -won - lost + (2 * n - won + lost) * delta
    c = -lost * delta * (1 - delta)
    losing = (np.sqrt(max(b * b - 8 * n * c, 0)) - b) / (4 * n)
    variance = n * (2 * losing + delta * (1 - delta))
    return float(gap / np.sqrt(variance)) if variance > 0 else float(np.copysign(np.inf, gap))
