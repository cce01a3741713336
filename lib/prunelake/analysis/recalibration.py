"""What recalibration makes of a run: its metrics before and after, with intervals and tests."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from prunelake.analysis import calibration, statistics
from prunelake.analysis.bootstrap import (
    BootstrappedMetric,
    CalibrationBootstrap,
    paired_means,
    why_unknown,
)
from prunelake.analysis.cross_fitting import (
    CALIBRATOR_NAMES,
    FOLD_COUNT,
    UNPRUNED_TEMPERATURE,
    CrossFittedCalibrator,
    cross_fit,
)
from prunelake.analysis.example_scores import ExampleScores, OptionScores
from prunelake.schema.analysis_tables import RECALIBRATED
from prunelake.schema.arrays import FloatArray
from prunelake.schema.metrics import METRIC_DEFINITIONS, value_range

JsonRow = dict[str, Any]

RANKING_METRICS = ("auroc", "aurc")
OPTION_METRICS = ("brier", "nll")
RECALIBRATED_METRICS = (
    "ece",
    "ece_debiased",
    "smooth_ece",
    "top_label_brier",
    *RANKING_METRICS,
    *OPTION_METRICS,
)
MEAN_METRICS = ("top_label_brier", *OPTION_METRICS)

# Each of the five folds has its own map, and where a fold is right less often than the others its
# map is the higher for it: beside one another they seem to rank worse than any one of them does.
ORDER_KEPT_NOTE = "one map of the confidence keeps the order of the examples: as before"
CONFIDENCE_ONLY_NOTE = "calibrates the confidence in the predicted option only: not defined"
NOT_REPORTED_NOTES = dict.fromkeys(RANKING_METRICS, ORDER_KEPT_NOTE) | dict.fromkeys(
    OPTION_METRICS, CONFIDENCE_ONLY_NOTE
)
"""Of the calibrators that map the confidence: what is not reported."""

TESTED_ELSEWHERE_NOTE = "recalibrated: tested in recalibration"


def recalibrate(
    found: ExampleScores, options: OptionScores, replicates: int, seed: int
) -> dict[str, list[JsonRow]]:
    """Rows of recalibrated, calibrators and recalibrated_reliability, and more of metrics.

    The resamples are those of `bootstrap.bootstrap_metrics`: of examples, the cross-fitted
    confidences being
    kept as they are.
    """
    fitted = cross_fit(found, options, seed)
    measure = _RecalibratedMetrics(
        found,
        options,
        fitted,
        statistics.bootstrap_weights(found.is_explained.astype(int), replicates, seed),
    )
    with ThreadPoolExecutor() as pool:
        by_level = list(pool.map(measure.level, range(len(found.levels))))
    rows = [row for rows in by_level for row in rows]
    return {
        "recalibrated": [
            {name: row[name] for name in RECALIBRATED.schema if name in row} for row in rows
        ],
        "metrics": [_metric_row(row) for row in rows if row["value"] is not None],
        "calibrators": [
            _calibrator_row(level, name, one)
            for name, by_place in fitted.items()
            for level, one in zip(found.levels, by_place, strict=True)
        ],
        "recalibrated_reliability": [
            {"level": level, "calibrator": name} | row
            for name, by_place in fitted.items()
            for place, level in enumerate(found.levels)
            if (confidence := by_place[place].confidence) is not None
            for row in _reliability_bins(confidence, found.correct[place])
        ],
    }


class _RecalibratedMetrics:
    """Every metric of each calibrator at each level, all from the same resamples."""

    def __init__(
        self,
        found: ExampleScores,
        options: OptionScores,
        fitted: Mapping[str, list[CrossFittedCalibrator]],
        weights: NDArray[np.float32],
    ) -> None:
        self.found = found
        self.fitted = fitted
        self.weights = weights
        self.base = found.levels.index(0)
        shape = found.confidence.shape
        plain = softmax(options.log_likelihoods, axis=2)
        self.states = [(found.confidence, plain)]
        for by_place in fitted.values():
            confidence, probabilities = np.full(shape, np.nan), np.full(plain.shape, np.nan)
            for place, one in enumerate(by_place):
                if one.confidence is not None:
                    confidence[place] = one.confidence
                if one.probabilities is not None:
                    probabilities[place] = one.probabilities
            self.states.append((confidence, probabilities))
        self.means = [_example_values(*state, found.correct, options.gold) for state in self.states]
        self.scorer = CalibrationBootstrap(
            np.concatenate([confidence for confidence, _ in self.states]),
            np.tile(found.correct, (len(self.states), 1)),
            weights,
        )
        self.scorer.paired_metrics(self.base, self.base)  # found ready by all

    def level(self, place: int) -> list[JsonRow]:
        """The rows of one level: all calibrators, all metrics."""
        level = self.found.levels[place]
        before = self._beside((0, place), (0, self.base))
        rows = []
        for state, name in enumerate(CALIBRATOR_NAMES, start=1):
            one = self.fitted[name][place]
            head = {"level": level, "calibrator": name}
            if one.confidence is None:
                note = {"value": None, "n": before["ece"].n, "note": one.failure_reason}
                rows += [head | {"metric": metric} | note for metric in RECALIBRATED_METRICS]
                continue
            after = self._beside((state, place), (0, self.base))
            change = self._beside((state, place), (0, place))
            for metric in RECALIBRATED_METRICS:
                low, high = before[metric].interval(*value_range(metric, ""))
                row = {
                    **head,
                    "metric": metric,
                    "higher_is_better": METRIC_DEFINITIONS[metric].higher_is_better,
                    "before": before[metric].value,
                    "before_low": low,
                    "before_high": high,
                    "n": before[metric].n,
                }
                if one.probabilities is not None or metric not in NOT_REPORTED_NOTES:
                    rows.append(row | _recalibrated_columns(metric, after[metric], change[metric]))
                else:
                    rows.append(row | {"value": None, "note": NOT_REPORTED_NOTES[metric]})
        return rows

    def _beside(
        self, one: tuple[int, int], other: tuple[int, int]
    ) -> dict[str, BootstrappedMetric]:
        """Every metric of a (state, place), and beside another one."""
        count = len(self.found.levels)
        (state, place), (base_state, base) = one, other
        scores = self.scorer.paired_metrics(state * count + place, base_state * count + base)
        own, unpruned = self.means[state][place], self.means[base_state][base]
        return scores | dict(
            zip(MEAN_METRICS, paired_means(own, unpruned, self.weights), strict=True)
        )


def _recalibrated_columns(
    metric: str, after: BootstrappedMetric, change: BootstrappedMetric
) -> JsonRow:
    """A metric after recalibration: beside level 0 as it was, and beside its own level before."""
    low, high = after.interval(*value_range(metric, ""))
    delta, gain = after.difference, change.difference
    is_up = METRIC_DEFINITIONS[metric].higher_is_better
    return {
        "value": after.value,
        "ci_low": low,
        "ci_high": high,
        "gain": gain.value if is_up else -gain.value,
        "gain_low": gain.low if is_up else -gain.high,
        "gain_high": gain.high if is_up else -gain.low,
        "gain_p_value": gain.p_value,
        "paired_n": after.paired_n,
        "paired_value": after.paired_value,
        "unpruned_value": after.unpruned_value,
        "delta": delta.value,
        "delta_se": delta.se,
        "delta_low": delta.low,
        "delta_high": delta.high,
        "equivalence_low": delta.equivalence_low,
        "equivalence_high": delta.equivalence_high,
        "p_value": delta.p_value,
        "note": why_unknown(metric, after.value, after.n, after.estimate.se)
        or why_unknown(metric, delta.value, after.paired_n, delta.se),
    }


def _example_values(
    confidence: FloatArray, probabilities: FloatArray, correct: FloatArray, gold: NDArray[np.int64]
) -> FloatArray:
    """What each example adds to each of MEANS: [levels, examples, 3].

    Of `confidence` and `correct` [levels, examples], `probabilities` [levels, examples, options].
    """
    right = np.take_along_axis(probabilities, np.maximum(gold, 0)[..., None], axis=2)[..., 0]
    brier = (probabilities**2).sum(axis=2) - 2 * right + 1
    return np.stack([(confidence - correct) ** 2, brier, -np.log(right)], axis=2)


def _metric_row(row: JsonRow) -> JsonRow:
    """The same in `metrics`, whose variant is the calibrator."""
    names = (
        *("level", "metric", "higher_is_better", "value", "n", "ci_low", "ci_high", "paired_n"),
        *("paired_value", "unpruned_value", "delta", "delta_se", "delta_low", "delta_high"),
    )
    return {name: row[name] for name in names} | {
        "method": "",
        "operator": "",
        "variant": row["calibrator"],
        "is_tested": False,
        "note": row["note"] or TESTED_ELSEWHERE_NOTE,
    }


def _calibrator_row(level: int, name: str, one: CrossFittedCalibrator) -> JsonRow:
    return {
        "level": level,
        "calibrator": name,
        "parameters": None if one.calibrator is None else one.calibrator.to_json(),
        "fit": f"{FOLD_COUNT} folds of the run's own rows"
        + (" at level 0" if name == UNPRUNED_TEMPERATURE else ""),
        "fit_rows": one.fit_rows,
        "note": one.failure_reason,
    }


def _reliability_bins(confidence: FloatArray, correct: FloatArray) -> list[JsonRow]:
    """Confidence and accuracy in the equal-width bins, the last one closed; no empty ones."""
    known = ~np.isnan(confidence)
    confidence, correct = confidence[known], correct[known]
    last = calibration.BIN_COUNT - 1
    bins = np.minimum(np.floor(confidence * calibration.BIN_COUNT), last).astype(int)
    return [
        {
            "bin": int(one),
            "n": int((bins == one).sum()),
            "mean_confidence": float(confidence[bins == one].mean()),
            "accuracy": float(correct[bins == one].mean()),
        }
        for one in np.unique(bins)
    ]
