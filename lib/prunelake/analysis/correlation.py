"""Correlation of accuracy with another metric over the levels of a run."""

import numpy as np
from scipy.stats import rankdata

from prunelake.analysis.statistics import CONFIDENCE_LEVEL, MIN_DEFINED_SHARE, bias_bound
from prunelake.schema.arrays import AnyFloatArray

CORRELATION_KINDS = ("pearson", "spearman", "kendall", "partial")
MIN_CORRELATION_LEVELS = 3


def correlations(
    levels: AnyFloatArray, accuracy: AnyFloatArray, metric: AnyFloatArray
) -> dict[str, AnyFloatArray]:
    """The correlations of n pairs of series, by kind: [n] each, NaN where a series is constant.

    `levels` is [levels], `accuracy` and `metric` are [levels, n]. The kinds are Pearson's,
    Spearman's with average ranks, Kendall's tau-b, and the partial correlation given the level:
    Pearson's correlation of the residuals from a straight line in the level. The partial
    correlation is NaN below four levels, where two residual series are always parallel, and where a
    line leaves no residuals.
    """
    # The last bits of a mean depend on the order of its sum and must not decide a rank.
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
    """The share of the variance over the levels that is not noise, from 0 to 1, by kind.

    `levels` is [levels], `accuracy` and `metric` are [levels, 1 + replicates]: the first column is
    the sample, and the variance of the replicates about it is the noise. The noisier of the two
    series counts. For `partial` the shares are those of the residuals from a straight line.
    """
    of_series = min(_reliability(accuracy), _reliability(metric))
    of_residuals = min(
        _reliability(_residuals(levels, accuracy)), _reliability(_residuals(levels, metric))
    )
    return {kind: of_residuals if kind == "partial" else of_series for kind in CORRELATION_KINDS}


def interval(value: float, replicates: AnyFloatArray, reliability: float) -> tuple[float, float]:
    """The 95 % interval of a correlation, within [-1, 1].

    The interval is symmetric about the value (Hall, 1988): its half width is the distance within
    which 95 % of the replicates lie, divided by the reliability, because noise pulls the
    correlation of the true values towards 0 (Spearman, 1904). It covers the value with and without
    the bias of `bias_bound`, because noise often swaps the ranks of nearly equal values. Quantiles
    of the replicates are not used: their interval can exclude the value itself. The interval is NaN
    if more than a tenth of the replicates are NaN.
    """
    known = replicates[~np.isnan(replicates)]
    if len(known) < MIN_DEFINED_SHARE * len(replicates):
        return np.nan, np.nan
    half_width = np.quantile(np.abs(known - value), CONFIDENCE_LEVEL) / max(reliability, 1e-9)
    centres = value, value - bias_bound(value, replicates)
    return float(max(min(centres) - half_width, -1)), float(min(max(centres) + half_width, 1))


def _pearson(left: AnyFloatArray, right: AnyFloatArray) -> AnyFloatArray:
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    norms = (left**2).sum(axis=0) * (right**2).sum(axis=0)
    product = (left * right).sum(axis=0)
    # The deviations of a constant from its mean are rounding errors.
    rounding = 1e-12 * len(left)
    is_constant = (np.abs(left).max(axis=0) < rounding) | (np.abs(right).max(axis=0) < rounding)
    return np.where(
        is_constant, np.nan, np.clip(product / np.sqrt(np.where(norms > 0, norms, 1)), -1, 1)
    )


def _kendall(left: AnyFloatArray, right: AnyFloatArray) -> AnyFloatArray:
    first, second = np.triu_indices(len(left), 1)
    left_signs = np.sign(left[first] - left[second])
    right_signs = np.sign(right[first] - right[second])
    untied = np.abs(left_signs).sum(axis=0) * np.abs(right_signs).sum(axis=0)
    product = (left_signs * right_signs).sum(axis=0)
    return np.where(untied > 0, product / np.sqrt(np.where(untied > 0, untied, 1)), np.nan)


def _residuals(levels: AnyFloatArray, series: AnyFloatArray) -> AnyFloatArray:
    """The residuals of each series from a straight line in the level; NaN below four levels."""
    if len(levels) <= MIN_CORRELATION_LEVELS:
        return np.full(series.shape, np.nan)
    steps, centred = levels - levels.mean(), series - series.mean(axis=0)
    residuals: AnyFloatArray = centred - np.outer(steps, steps @ centred / (steps @ steps))
    return residuals


def _reliability(series: AnyFloatArray) -> float:
    shifts = series[:, 1:] - series[:, :1]
    shifts = shifts[:, ~np.isnan(shifts).any(axis=0)]
    if not shifts.size:
        return 0.0
    noise = (shifts - shifts.mean(axis=0)).var()
    total = series[:, 0].var()
    return float(max(0.0, 1 - noise / total)) if total > 0 else 0.0
