"""Correlations between accuracy and a metric over the levels of a run."""

import numpy as np
from scipy.stats import rankdata

from prunelake.analysis.statistics import bias_bound
from prunelake.schema.arrays import AnyFloatArray

CORRELATION_KINDS = ("pearson", "spearman", "kendall", "partial")
MIN_CORRELATION_LEVELS = 3


def correlations(
    levels: AnyFloatArray, accuracy: AnyFloatArray, metric: AnyFloatArray
) -> dict[str, AnyFloatArray]:
    """Pearson, Spearman (average ranks), Kendall's tau-b, and Pearson given the level: [n] each.

    `levels` is [levels], `accuracy` and `metric` are [levels, n]: n pairs of series. NaN where a
    series is constant. The partial correlation is that of what a straight line in the level leaves
    of both; NaN below four levels, where the two remainders have one direction to lie in, and where
    a line leaves nothing.
    """
    # The last bits of a mean depend on the order of its sum and must not make ranks.
    accuracy, metric = np.round(accuracy, 12), np.round(metric, 12)
    return {
        "pearson": _pearson(accuracy, metric),
        "spearman": _pearson(rankdata(accuracy, axis=0), rankdata(metric, axis=0)),
        "kendall": _kendall(accuracy, metric),
        "partial": _pearson(_residuals(levels, accuracy), _residuals(levels, metric)),
    }


def reliabilities(
    levels: AnyFloatArray, accuracy: AnyFloatArray, metric: AnyFloatArray
) -> dict[str, float]:
    """How much of the variance over the levels is not noise, in the noisier series: 0 to 1.

    Arguments as above, the first column being the sample and the others its replicates, whose
    variance about it is the noise. For `partial` it is that of what a straight line leaves.
    """
    kept = min(_reliability(accuracy), _reliability(metric))
    left = min(_reliability(_residuals(levels, accuracy)), _reliability(_residuals(levels, metric)))
    return {kind: left if kind == "partial" else kept for kind in CORRELATION_KINDS}


def interval(value: float, replicates: AnyFloatArray, reliability: float) -> tuple[float, float]:
    """The interval of a correlation at 95 %: symmetric (Hall, 1988), and wider for noise.

    It reaches as far from the value as 95 % of the replicates lie, over the reliability: noise
    pulls the correlation of the levels' true values towards 0 (Spearman, 1904). It does so about
    all that `bias_bound` leaves: ranks of near-equals are swapped more often than not. An
    interval of the replicates' own quantiles can miss the very value that it is for. NaN where over
    a tenth of the replicates have no correlation.
    """
    known = replicates[~np.isnan(replicates)]
    if len(known) < 0.9 * len(replicates):
        return np.nan, np.nan
    half = np.quantile(np.abs(known - value), 0.95) / max(reliability, 1e-9)
    ends = value, value - bias_bound(value, replicates)
    return float(max(min(ends) - half, -1)), float(min(max(ends) + half, 1))


def _pearson(one: AnyFloatArray, other: AnyFloatArray) -> AnyFloatArray:
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norms = (one**2).sum(axis=0) * (other**2).sum(axis=0)
    product = (one * other).sum(axis=0)
    # What is left of a constant's deviations is rounding.
    scale = 1e-12 * len(one)
    is_constant = (np.abs(one).max(axis=0) < scale) | (np.abs(other).max(axis=0) < scale)
    return np.where(
        is_constant, np.nan, np.clip(product / np.sqrt(np.where(norms > 0, norms, 1)), -1, 1)
    )


def _kendall(one: AnyFloatArray, other: AnyFloatArray) -> AnyFloatArray:
    first, second = np.triu_indices(len(one), 1)
    signs = np.sign(one[first] - one[second])
    other_signs = np.sign(other[first] - other[second])
    untied = np.abs(signs).sum(axis=0) * np.abs(other_signs).sum(axis=0)
    product = (signs * other_signs).sum(axis=0)
    return np.where(untied > 0, product / np.sqrt(np.where(untied > 0, untied, 1)), np.nan)


def _residuals(levels: AnyFloatArray, series: AnyFloatArray) -> AnyFloatArray:
    """What a straight line in the level leaves of each series; NaN below four levels."""
    if len(levels) <= MIN_CORRELATION_LEVELS:
        return np.full(series.shape, np.nan)
    steps, centred = levels - levels.mean(), series - series.mean(axis=0)
    left: AnyFloatArray = centred - np.outer(steps, steps @ centred / (steps @ steps))
    return left


def _reliability(series: AnyFloatArray) -> float:
    shifts = series[:, 1:] - series[:, :1]
    shifts = shifts[:, ~np.isnan(shifts).any(axis=0)]
    if not shifts.size:
        return 0.0
    noise = (shifts - shifts.mean(axis=0)).var()
    total = series[:, 0].var()
    return float(max(0.0, 1 - noise / total)) if total > 0 else 0.0
