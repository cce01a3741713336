"""Calibrators fitted to a run's own predictions, each applied only to examples it has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis.calibrators import CALIBRATOR_KINDS, Calibrator, fit
from prunelake.analysis.example_scores import ExampleScores, OptionScores
from prunelake.schema.arrays import FloatArray

FOLD_COUNT = 5
MIN_ROWS = 50
MIN_OUTCOMES = 10

UNPRUNED_TEMPERATURE = "unpruned_temperature"
"""The temperature fitted to the unpruned model, applied to a level."""

CALIBRATOR_NAMES = (*CALIBRATOR_KINDS, UNPRUNED_TEMPERATURE)


@dataclass(frozen=True)
class CrossFittedCalibrator:
    """One calibrator at one level of a run.

    `confidence` [examples] is cross-fitted: each by a calibrator fitted without the example's fold;
    NaN where the example could not be scored. So is `probabilities` [examples, options], None of a
    calibrator that does not scale options. `whole` is fitted to all `fit_rows` examples. Where the
    rows do not suffice, `why_not` says so, and there is nothing else.
    """

    fit_rows: int
    failure_reason: str | None = None
    confidence: FloatArray | None = None
    probabilities: FloatArray | None = None
    calibrator: Calibrator | None = None


def cross_fit(
    found: ExampleScores, options: OptionScores, seed: int
) -> Mapping[str, list[CrossFittedCalibrator]]:
    """Every one of CALIBRATORS at each level, in the order of the levels."""
    fold = folds(options.prompts, seed)
    base = found.levels.index(0)
    places = range(len(found.levels))
    by_kind = {
        kind: [_cross_fit_level(kind, found, options, fold, (place, place)) for place in places]
        for kind in CALIBRATOR_KINDS
    }
    moved = [
        _cross_fit_level("temperature", found, options, fold, (base, place)) for place in places
    ]
    return by_kind | {UNPRUNED_TEMPERATURE: moved}


def folds(prompts: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The fold of each example, from 0: equal prompts share one, the others are drawn."""
    distinct, group = np.unique(np.array(prompts, dtype=object), return_inverse=True)
    drawn: NDArray[np.int64] = np.random.default_rng(seed).permutation(len(distinct)) % FOLD_COUNT
    return drawn[group]


def why_too_few_rows(correct: FloatArray, prompts: Sequence[str]) -> str | None:
    """Why these scored examples do not suffice to calibrate; None where they do."""
    count, right, different = len(correct), int(correct.sum()), len(set(prompts))
    if count < MIN_ROWS:
        return f"{count} scored rows: at least {MIN_ROWS} are needed to calibrate"
    if different < MIN_ROWS:
        return (
            f"{count} scored rows of {different} different prompts: at least {MIN_ROWS} are needed "
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
    found: ExampleScores,
    options: OptionScores,
    fold: NDArray[np.int64],
    places: tuple[int, int],
) -> CrossFittedCalibrator:
    """A calibrator fitted at one place among the levels and applied at another."""
    source, target = places
    known = ~np.isnan(found.confidence)
    rows = np.flatnonzero(known[source])
    problem = why_too_few_rows(found.correct[source][rows], [options.prompts[row] for row in rows])
    if problem is not None:
        return CrossFittedCalibrator(
            len(rows), f"level 0: {problem}" if source != target else problem
        )

    def fit_to(chosen: NDArray[np.int64]) -> Calibrator:
        scores, gold = options.log_likelihoods[source][chosen], options.gold[source][chosen]
        return fit(kind, scores, gold, found.correct[source][chosen])

    scores = options.log_likelihoods[target]
    confidence = np.full(len(fold), np.nan)
    probabilities = np.full(scores.shape, np.nan)
    whole = fit_to(rows)
    for one in range(FOLD_COUNT):
        calibrator = fit_to(rows[fold[rows] != one])
        unseen = np.flatnonzero(known[target] & (fold == one))
        confidence[unseen] = calibrator.confidence(scores[unseen])
        if calibrator.scales_options:
            probabilities[unseen] = calibrator.probabilities(scores[unseen])
    return CrossFittedCalibrator(
        len(rows), None, confidence, probabilities if whole.scales_options else None, whole
    )
