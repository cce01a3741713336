"""Metrics of confidence against correctness, each computed for many resamples at once.

The metrics take `confidence` [n] in [0, 1], `correct` [n] of 0 and 1, and `weights`
[n, replicates], which say how often each example counts. They return [replicates].

Bins and bandwidths come from the sample, with each example counted once, so that all replicates
measure the same quantity. Replicates are processed in blocks, so that memory depends little on n.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array
from scipy.special import ndtr

from prunelake.schema.arrays import AnyFloatArray

CALIBRATION_METRICS = ("ece", "ece_debiased", "smooth_ece", "auroc", "aurc")
"""The metrics of this module. Unlike other metrics, they are not means over examples."""

BIN_COUNT = 10
GRID_POINTS = 200  # as in relplot's smooth ECE
BLOCK_ELEMENTS = 2**21
"""Examples x replicates in one block."""


def calibration_metrics(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> dict[str, AnyFloatArray]:
    """All CALIBRATION_METRICS by name: [replicates] each."""
    auroc, aurc = ranking_metrics(confidence, correct, weights)
    return {
        "ece": ece(confidence, correct, weights),
        "ece_debiased": ece_debiased(confidence, correct, weights),
        "smooth_ece": smooth_ece(confidence, correct, weights),
        "auroc": auroc,
        "aurc": aurc,
    }


def equal_width_bins(confidence: AnyFloatArray) -> NDArray[np.int64]:
    """The bin [n] of each confidence, from 0 to 9: ten bins of equal width, the last one closed."""
    bins: NDArray[np.int64] = np.minimum(np.floor(confidence * BIN_COUNT), BIN_COUNT - 1).astype(
        np.int64
    )
    return bins


def ece(confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray) -> AnyFloatArray:
    """Expected calibration error over ten bins of equal width, the last one closed."""
    bins = equal_width_bins(confidence)
    errors = []
    for block in _weight_blocks(weights):
        gaps = _bin_sums(bins, BIN_COUNT, confidence - correct, block)
        errors.append(np.abs(gaps).sum(axis=0) / block.sum(axis=0))
    return np.concatenate(errors)


def ece_debiased(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> AnyFloatArray:
    """Expected calibration error over ten equal-mass bins, corrected for the error due to chance.

    The value is 2 x plain - expected, where `expected` is the mean of the plain value when each
    bin's accuracy is drawn again from a normal distribution: the mean of a folded normal
    distribution. Source: Kumar, Liang and Ma, NeurIPS 2019, here for the absolute error. Equal
    confidences share a bin. NaN if a bin has fewer than two examples.
    """
    bins, count = _equal_mass_bins(confidence)
    if np.bincount(bins).min() < 2:
        return np.full(weights.shape[1], np.nan)
    errors = []
    for block in _weight_blocks(weights):
        size = _bin_sums(bins, count, np.ones_like(confidence), block)
        with np.errstate(divide="ignore", invalid="ignore"):  # a bin may be empty in a resample
            accuracy = _bin_sums(bins, count, correct, block) / size
            gap = np.abs(_bin_sums(bins, count, confidence, block) / size - accuracy)
            spread = np.sqrt(accuracy * (1 - accuracy) / size)
            ratio = gap / spread
            folded = spread * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + gap * (
                1 - 2 * ndtr(-ratio)
            )
        expected = np.where(spread > 0, folded, gap)
        debiased = np.where(size > 0, size * (2 * gap - expected), 0)
        errors.append(debiased.sum(axis=0) / block.sum(axis=0))
    return np.concatenate(errors)


def smooth_ece(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> AnyFloatArray:
    """Smooth calibration error (Blasiok and Nakkiran, ICLR 2024), as in relplot.

    All resamples use the bandwidth that relplot chooses for the sample.
    """
    sample = np.stack([confidence, correct])
    value, width = _value_and_bandwidth(sample.tobytes(), sample.dtype.str)
    points = max(round(10 / width), GRID_POINTS)
    grid_position = confidence * (points - 1)
    left = np.minimum(grid_position.astype(int), points - 2)
    right_share = grid_position - left
    gap = confidence - correct
    errors = []
    for block in _weight_blocks(weights):
        on_grid = _bin_sums(left, points, (1 - right_share) * gap, block)
        on_grid += _bin_sums(left + 1, points, right_share * gap, block)
        smoothed = gaussian_filter1d(on_grid, width * (points - 1), axis=0, mode="reflect")
        replicates = np.abs(smoothed).sum(axis=0) / block.sum(axis=0)
        is_sample = (block == 1).all(axis=0)
        errors.append(np.where(is_sample, value, replicates))
    return np.concatenate(errors)


@lru_cache(maxsize=64)
def _value_and_bandwidth(sample: bytes, dtype: str) -> tuple[float, float]:
    """The smooth ECE of a sample, and the bandwidth that relplot chooses.

    An analysis asks up to four times for the values of one level. The sample is an array of the
    confidence and the correctness: [2, n].
    """
    from relplot import smECE  # not in a plain installation, which only reads

    confidence, correct = np.frombuffer(sample, dtype).reshape(2, -1)
    value, width = smECE(confidence, correct, return_width=True)
    return value, width


def ranking_metrics(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> tuple[AnyFloatArray, AnyFloatArray]:
    """AUROC and AURC: whether confident predictions are more often correct. [replicates] each.

    AUROC is the probability that a correct prediction is more confident than a wrong one; a tie
    counts half. NaN where all predictions are correct, or none. AURC is the area under the
    risk-coverage curve (Geifman, Uziel and El-Yaniv, ICLR 2019): for each example, the error rate
    among the examples that are at least as confident; then the mean over the examples.
    """
    order = np.argsort(-confidence, kind="stable")
    tie_ends = np.flatnonzero(np.diff(confidence[order], append=-1) < 0)
    blocks = [
        _sorted_ranking_metrics(block[order], correct[order], tie_ends)
        for block in _weight_blocks(weights)
    ]
    auroc, aurc = (np.concatenate(values) for values in zip(*blocks, strict=True))
    return auroc, aurc


def _sorted_ranking_metrics(
    weights: AnyFloatArray, correct: AnyFloatArray, tie_ends: NDArray[np.integer]
) -> tuple[AnyFloatArray, AnyFloatArray]:
    """AUROC and AURC of examples in descending order of confidence.

    `tie_ends` are the indices of the last example of each distinct confidence.
    """
    covered = np.cumsum(weights, axis=0)[tie_ends]
    right = np.cumsum(weights * correct[:, None].astype(weights.dtype), axis=0)[tie_ends]
    wrong = covered - right
    risk = np.divide(wrong, covered, out=np.zeros_like(covered), where=covered > 0)
    aurc = np.einsum("tr,tr->r", _row_differences(covered), risk) / covered[-1]
    # A correct prediction beats every less confident wrong prediction; a tie counts half.
    beaten = wrong[-1] - wrong + _row_differences(wrong) / 2
    pairs = right[-1] * wrong[-1]
    won = np.einsum("tr,tr->r", _row_differences(right), beaten)
    return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0), aurc


def brier_decomposition(
    confidence: AnyFloatArray, correct: AnyFloatArray
) -> tuple[AnyFloatArray, AnyFloatArray, float]:
    """The calibration and the refinement of each example, [n] each, and the optimism of the fit.

    For each example, calibration + refinement = (confidence - correct)^2. Refinement is the squared
    error after isotonic regression on the sample, the best increasing recalibration; calibration is
    the rest (Dimitriadis, Gneiting and Jordan, PNAS 2021). Isotonic regression minimises the error.
    Resamples may therefore keep the regression of the sample: the result is exact to first order.

    The optimism is an upper bound on the amount that fitting to the sample itself moves from mean
    refinement to mean calibration (Efron, JASA 2004). It is the sum of 2 p (1 - p) / n over the
    distinct values p of the regression, because each is one fitted parameter (Meyer and Woodroofe,
    Annals of Statistics 2000).
    """
    from sklearn.isotonic import IsotonicRegression  # not in a plain installation

    recalibrated = IsotonicRegression(out_of_bounds="clip").fit_transform(confidence, correct)
    refinement = (recalibrated - correct) ** 2
    distinct = np.unique(recalibrated)
    optimism = float((2 * distinct * (1 - distinct)).sum() / len(confidence))
    return (confidence - correct) ** 2 - refinement, refinement, optimism


def _weight_blocks(weights: AnyFloatArray) -> Iterator[AnyFloatArray]:
    """Blocks of replicates; at least one block, even without replicates."""
    count = weights.shape[1]
    width = max(1, BLOCK_ELEMENTS // max(1, len(weights)))
    for start in range(0, max(count, 1), width):
        yield weights[:, start : start + width]


def _bin_sums(
    bins: NDArray[np.integer], count: int, values: AnyFloatArray, weights: AnyFloatArray
) -> AnyFloatArray:
    """The weighted sum of `values` [n] in each of `count` bins: [count, replicates]."""
    examples = np.arange(len(bins))
    members = csr_array((values.astype(weights.dtype), (bins, examples)), (count, len(bins)))
    total: AnyFloatArray = members @ weights
    return total


def _equal_mass_bins(confidence: AnyFloatArray) -> tuple[NDArray[np.int64], int]:
    """The bin of each confidence, and the number of bins: ten, or fewer if confidences tie."""
    tenths = np.array_split(np.sort(confidence), BIN_COUNT)
    tenths = [tenth for tenth in tenths if len(tenth)]
    upper_edges = [tenth[-1] for tenth in tenths[:-1]]
    indices = np.searchsorted(upper_edges, confidence, side="left")
    used, bins = np.unique(indices, return_inverse=True)
    return bins, len(used)


def _row_differences(cumulative: AnyFloatArray) -> AnyFloatArray:
    """Each row minus the row before; the first row is unchanged."""
    differences = cumulative.copy()
    differences[1:] -= cumulative[:-1]
    return differences
