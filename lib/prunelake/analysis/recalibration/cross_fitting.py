"""Cross-fitting: each calibrator is applied only to examples that it was not fitted to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis.calibrators import Calibrator, fit
from prunelake.analysis.example_scores import ExampleScores, OptionScores
from prunelake.errors import InvalidCalibrator
from prunelake.schema.arrays import FloatArray
from prunelake.schema.calibrators import CALIBRATOR_KINDS, UNPRUNED_TEMPERATURE

FOLD_COUNT = 5
MIN_ROWS = 50
MIN_OUTCOMES = 10
NO_OPTIONS_REASON = "calibrators need the log-likelihoods of all options, which these rows lack"


@dataclass(frozen=True)
class CrossFittedCalibrator:
    """A calibrator at one level of a run.

    `confidence` [examples] is cross-fitted: the calibrator of an example is fitted without the
    example's fold. NaN where the options were not scored. `probabilities` [examples, options]
    are cross-fitted too; None if the calibrator does not scale options. `calibrator` is fitted to
    all `fit_rows` examples. If there is no fit, `failure_reason` says why, and the other fields are
    None.
    """

    fit_rows: int
    failure_reason: str | None = None
    confidence: FloatArray | None = None
    probabilities: FloatArray | None = None
    calibrator: Calibrator | None = None


def cross_fit(
    scores: ExampleScores, options: OptionScores, seed: int
) -> Mapping[str, list[CrossFittedCalibrator]]:
    """Cross-fit each of CALIBRATOR_NAMES at each level: one entry per level, in order."""
    folds = assign_folds(options.prompts, seed)
    baseline = scores.levels.index(0)
    indices = range(len(scores.levels))
    by_kind = {
        kind: [
            _cross_fit_level(kind, scores, options, folds, source=index, target=index)
            for index in indices
        ]
        for kind in CALIBRATOR_KINDS
    }
    unpruned_temperature = [
        _cross_fit_level("temperature", scores, options, folds, source=baseline, target=index)
        for index in indices
    ]
    return by_kind | {UNPRUNED_TEMPERATURE: unpruned_temperature}


def assign_folds(prompts: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The fold of each example, from 0 to 4, drawn at random: [examples].

    Examples with the same prompt share a fold. The folds differ by at most one prompt in size.
    """
    distinct, prompt_index = np.unique(np.array(prompts, dtype=object), return_inverse=True)
    folds: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(distinct)) % FOLD_COUNT
    return folds[prompt_index]


def too_few_rows_reason(correct: FloatArray, prompts: Sequence[str]) -> str | None:
    """Why these scored examples are too few to fit a calibrator; None if they are enough.

    `correct` [examples] is 1 for a right prediction, else 0.
    """
    count, right, distinct = len(correct), int(correct.sum()), len(set(prompts))
    if count < MIN_ROWS:
        return f"{count} scored rows: at least {MIN_ROWS} are needed to calibrate"
    if distinct < MIN_ROWS:
        return (
            f"{count} scored rows of {distinct} different prompts: at least {MIN_ROWS} are needed "
            "to calibrate"
        )
    if min(right, count - right) < MIN_OUTCOMES:
        return (
            f"{count} scored rows, {right} of them right: at least {MIN_OUTCOMES} right and "
            f"{MIN_OUTCOMES} wrong ones are needed to calibrate"
        )
    return None


def _cross_fit_level(
    kind: str,
    scores: ExampleScores,
    options: OptionScores,
    folds: NDArray[np.int64],
    *,
    source: int,
    target: int,
) -> CrossFittedCalibrator:
    """Fit a calibrator at level index `source` and apply it at level index `target`."""
    known = options.is_known
    rows = np.flatnonzero(known[source])
    for index in (target, source):
        if not known[index].any() and not np.isnan(scores.correct[index]).all():
            return CrossFittedCalibrator(len(rows), failure_reason=NO_OPTIONS_REASON)
    problem = too_few_rows_reason(
        scores.correct[source][rows], [options.prompts[row] for row in rows]
    )
    if problem is not None:
        return CrossFittedCalibrator(
            len(rows), failure_reason=f"level 0: {problem}" if source != target else problem
        )

    def fit_to(chosen: NDArray[np.int64]) -> Calibrator:
        return fit(
            kind,
            options.log_likelihoods[source][chosen],
            options.gold[source][chosen],
            scores.correct[source][chosen],
        )

    log_likelihoods = options.log_likelihoods[target]
    confidence = np.full(len(folds), np.nan)
    probabilities = np.full(log_likelihoods.shape, np.nan)
    try:
        fitted_to_all = fit_to(rows)
        without_fold = [fit_to(rows[folds[rows] != fold]) for fold in range(FOLD_COUNT)]
    except InvalidCalibrator as error:  # the wrong predictions may share one fold
        return CrossFittedCalibrator(len(rows), failure_reason=str(error))
    for fold, calibrator in enumerate(without_fold):
        unseen = np.flatnonzero(known[target] & (folds == fold))
        confidence[unseen] = calibrator.confidence(log_likelihoods[unseen])
        if calibrator.scales_options:
            probabilities[unseen] = calibrator.probabilities(log_likelihoods[unseen])
    return CrossFittedCalibrator(
        len(rows),
        confidence=confidence,
        probabilities=probabilities if fitted_to_all.scales_options else None,
        calibrator=fitted_to_all,
    )
