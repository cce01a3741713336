"""Confidence against correctness: scores of calibration and of ranking, each for many resamples.

Every function takes `confidence` [n] in [0, 1], `correct` [n] of 0 and 1, and `weights`
[n, replicates]: how often each example counts. It returns [replicates]. Bins and bandwidths are
those of the sample itself, each example counting once, so that all replicates measure one quantity.
Replicates are worked through in blocks, so that the memory for it depends little on n.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from relplot import smECE
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array
from scipy.special import ndtr
from sklearn.isotonic import IsotonicRegression

from prunelake.schema.arrays import AnyFloatArray

BIN_COUNT = 10
GRID_POINTS = 200  # of relplot's smooth ECE
BLOCK_ELEMENTS = 2**21
"""Examples x replicates that are worked through together."""


def ece(confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray) -> AnyFloatArray:
    """Expected calibration error: 10 equal-width bins, the last one closed."""
    bins = np.minimum(np.floor(confidence * BIN_COUNT), BIN_COUNT - 1).astype(int)
    errors = []
    for block in _weight_blocks(weights):
        gaps = _bin_sums(bins, BIN_COUNT, confidence - correct, block)
        errors.append(np.abs(gaps).sum(axis=0) / block.sum(axis=0))
    return np.concatenate(errors)


def ece_debiased(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> AnyFloatArray:
    """Expected calibration error over 10 equal-mass bins, less what chance alone would show.

    Twice the plain value less its mean when each bin's accuracy is drawn anew from a normal
    distribution (Kumar, Liang and Ma, NeurIPS 2019, for the absolute error), the mean being that
    of a folded normal distribution. Equal confidences share a bin. NaN below two examples a bin.
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
    """Smooth calibration error (Blasiok and Nakkiran, ICLR 2024) as relplot computes it.

    Resamples keep the bandwidth that relplot finds for the sample.
    """
    value, width = smECE(confidence, correct, return_width=True)
    points = max(round(10 / width), GRID_POINTS)
    place = confidence * (points - 1)
    left = np.minimum(place.astype(int), points - 2)
    share = place - left
    gap = confidence - correct
    errors = []
    for block in _weight_blocks(weights):
        on_grid = _bin_sums(left, points, (1 - share) * gap, block)
        on_grid += _bin_sums(left + 1, points, share * gap, block)
        smoothed = gaussian_filter1d(on_grid, width * (points - 1), axis=0, mode="reflect")
        replicates = np.abs(smoothed).sum(axis=0) / block.sum(axis=0)
        is_sample = (block == 1).all(axis=0)
        errors.append(np.where(is_sample, value, replicates))
    return np.concatenate(errors)


def ranking_metrics(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> tuple[AnyFloatArray, AnyFloatArray]:
    """AUROC and AURC: are the confident predictions the correct ones?

    AUROC is how often a correct prediction is more confident than a wrong one, ties counting half;
    NaN where all are correct or none is. AURC, the area under the risk-coverage curve (Geifman,
    Uziel and El-Yaniv, ICLR 2019), is the mean over the examples of the error rate among those at
    least as confident.
    """
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-1) < 0)  # of each equal confidence
    found = [
        _auroc_and_aurc(block[order], correct[order], last) for block in _weight_blocks(weights)
    ]
    auroc, aurc = (np.concatenate(part) for part in zip(*found, strict=True))
    return auroc, aurc


def _auroc_and_aurc(
    weights: AnyFloatArray, correct: AnyFloatArray, last: NDArray[np.integer]
) -> tuple[AnyFloatArray, AnyFloatArray]:
    """AUROC and AURC of examples that are sorted, of which `last` are the last of their equals."""
    covered = np.cumsum(weights, axis=0)[last]
    right = np.cumsum(weights * correct[:, None].astype(weights.dtype), axis=0)[last]
    wrong = covered - right
    risk = np.divide(wrong, covered, out=np.zeros_like(covered), where=covered > 0)
    aurc = np.einsum("tr,tr->r", _row_differences(covered), risk) / covered[-1]
    # A correct prediction beats the wrong ones that come later, and half of its equals.
    beaten = wrong[-1] - wrong + _row_differences(wrong) / 2
    pairs = right[-1] * wrong[-1]
    won = np.einsum("tr,tr->r", _row_differences(right), beaten)
    return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0), aurc


CALIBRATION_METRICS = ("ece", "ece_debiased", "smooth_ece", "auroc", "aurc")


def calibration_metrics(
    confidence: AnyFloatArray, correct: AnyFloatArray, weights: AnyFloatArray
) -> dict[str, AnyFloatArray]:
    """Every one of SCORES: what is no mean of per-example values."""
    auroc, aurc = ranking_metrics(confidence, correct, weights)
    return {
        "ece": ece(confidence, correct, weights),
        "ece_debiased": ece_debiased(confidence, correct, weights),
        "smooth_ece": smooth_ece(confidence, correct, weights),
        "auroc": auroc,
        "aurc": aurc,
    }


def brier_decomposition(
    confidence: AnyFloatArray, correct: AnyFloatArray
) -> tuple[AnyFloatArray, AnyFloatArray, float]:
    """Calibration and refinement, [n] each: their means add up to that of (confidence - correct)^2.

    Refinement is the squared error left after the best increasing recalibration (isotonic
    regression on the sample itself), calibration the rest; the decomposition of Dimitriadis,
    Gneiting and Jordan (PNAS 2021). As isotonic regression minimises the error, resampling with the
    sample's own recalibration is right to first order.

    Third comes the most that a recalibration fitted to the sample itself can move from the mean of
    refinement to that of calibration: Efron's optimism (JASA 2004), 2 p (1 - p) / n for each
    distinct value p that it has, one fitted parameter each (Meyer and Woodroofe, Annals of
    Statistics 2000).
    """
    recalibrated = IsotonicRegression(out_of_bounds="clip").fit_transform(confidence, correct)
    refinement = (recalibrated - correct) ** 2
    fitted = np.unique(recalibrated)
    optimism = float((2 * fitted * (1 - fitted)).sum() / len(confidence))
    return (confidence - correct) ** 2 - refinement, refinement, optimism


def _weight_blocks(weights: AnyFloatArray) -> Iterator[AnyFloatArray]:
    """The weights, some replicates at a time; at least one block."""
    count = weights.shape[1]
    width = max(1, BLOCK_ELEMENTS // max(1, len(weights)))
    for start in range(0, max(count, 1), width):
        yield weights[:, start : start + width]


def _bin_sums(
    bins: NDArray[np.integer], count: int, values: AnyFloatArray, weights: AnyFloatArray
) -> AnyFloatArray:
    """Weighted sum of values [n] by bin: [count, replicates]."""
    examples = np.arange(len(bins))
    members = csr_array((values.astype(weights.dtype), (bins, examples)), (count, len(bins)))
    total: AnyFloatArray = members @ weights
    return total


def _equal_mass_bins(confidence: AnyFloatArray) -> tuple[NDArray[np.int64], int]:
    parts = np.array_split(np.sort(confidence), BIN_COUNT)
    parts = [part for part in parts if len(part)]
    highest = [part[-1] for part in parts[:-1]]
    found = np.searchsorted(highest, confidence, side="left")
    used, bins = np.unique(found, return_inverse=True)
    return bins, len(used)


def _row_differences(cumulated: AnyFloatArray) -> AnyFloatArray:
    """What each row adds to the one before."""
    steps = cumulated.copy()
    steps[1:] -= cumulated[:-1]
    return steps
