"""Correlations between accuracy and a metric over the levels of a run."""

import numpy as np
from scipy.stats import rankdata

from prunelake.stats import Floats

KINDS = ("pearson", "spearman", "kendall", "partial")
MIN_LEVELS = 3


def correlations(levels: Floats, accuracy: Floats, metric: Floats) -> dict[str, Floats]:
    """Pearson, Spearman (average ranks), Kendall's tau-b, and Pearson given the level: [n] each.

    `levels` is [levels], `accuracy` and `metric` are [levels, n]: n pairs of series. NaN where a
    series is constant. The partial correlation is that of what a straight line in the level leaves
    of both; NaN below four levels, where the two remainders have one direction to lie in, and where
    a line leaves nothing.
    """
    # The last bits of a mean depend on the order of its sum and must not make ranks.
    accuracy, metric = np.round(accuracy, 12), np.round(metric, 12)
    pearson = _pearson(accuracy, metric)
    return {
        "pearson": pearson,
        "spearman": _pearson(rankdata(accuracy, axis=0), rankdata(metric, axis=0)),
        "kendall": _kendall(accuracy, metric),
        "partial": _partial(levels, accuracy, metric, pearson),
    }


def interval(value: float, replicates: Floats) -> tuple[float, float]:
    """The symmetric bootstrap interval of a correlation at 95 % (Hall, 1988).

    As far to both sides as 95 % of the replicates lie away from the value. Noise pulls correlations
    towards 0, and those of resamples, which have it twice, further than the value itself: an
    interval of the replicates' own quantiles can miss the value that it is for. NaN where over a
    tenth of the replicates have no correlation.
    """
    known = replicates[~np.isnan(replicates)]
    if len(known) < 0.9 * len(replicates):
        return np.nan, np.nan
    half = np.quantile(np.abs(known - value), 0.95)
    return float(max(value - half, -1)), float(min(value + half, 1))


def _pearson(one: Floats, other: Floats) -> Floats:
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    norms = (one**2).sum(axis=0) * (other**2).sum(axis=0)
    product = (one * other).sum(axis=0)
    # What is left of a constant's deviations is rounding.
    scale = 1e-12 * len(one)
    is_constant = (np.abs(one).max(axis=0) < scale) | (np.abs(other).max(axis=0) < scale)
    return np.where(
        is_constant, np.nan, np.clip(product / np.sqrt(np.where(norms > 0, norms, 1)), -1, 1)
    )


def _kendall(one: Floats, other: Floats) -> Floats:
    first, second = np.triu_indices(len(one), 1)
    signs = np.sign(one[first] - one[second])
    other_signs = np.sign(other[first] - other[second])
    untied = np.abs(signs).sum(axis=0) * np.abs(other_signs).sum(axis=0)
    product = (signs * other_signs).sum(axis=0)
    return np.where(untied > 0, product / np.sqrt(np.where(untied > 0, untied, 1)), np.nan)


def _partial(levels: Floats, one: Floats, other: Floats, pearson: Floats) -> Floats:
    if len(levels) < MIN_LEVELS + 1:
        return np.full(one.shape[1], np.nan)
    line = np.broadcast_to(levels[:, None], one.shape)
    with_one, with_other = _pearson(line, one), _pearson(line, other)
    left = (1 - with_one**2) * (1 - with_other**2)
    partial = (pearson - with_one * with_other) / np.sqrt(np.where(left > 1e-12, left, 1))
    return np.where(left > 1e-12, np.clip(partial, -1, 1), np.nan)
