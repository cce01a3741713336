"""The metrics of a run before and after recalibration, with intervals and tests."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis import calibration, statistics
from prunelake.analysis.bootstrap import (
    BootstrappedMetric,
    CalibrationBootstrap,
    paired_means,
)
from prunelake.analysis.confidence import option_probabilities
from prunelake.analysis.example_scores import ExampleScores, OptionScores
from prunelake.analysis.recalibration.cross_fitting import CrossFittedCalibrator, cross_fit
from prunelake.analysis.recalibration.fit_variation import (
    log_temperature_shifts,
    metric_slopes,
    with_fit_variation,
)
from prunelake.analysis.recalibration.recalibrated_rows import (
    calibrator_row,
    metric_row,
    recalibrated_columns,
    reliability_bins,
)
from prunelake.analysis.sequential import ONE_LOOK, LookTimes
from prunelake.schema.analysis_tables import RECALIBRATED
from prunelake.schema.arrays import AnyFloatArray, FloatArray
from prunelake.schema.calibrators import (
    CALIBRATOR_NAMES,
    OPTION_METRICS,
    RANKING_METRICS,
    RECALIBRATED_METRICS,
    UNPRUNED_TEMPERATURE,
)
from prunelake.schema.metrics import METRIC_DEFINITIONS, value_range
from prunelake.schema.table import TableRow

MEAN_METRICS = ("top_label_brier", *OPTION_METRICS)
"""The metrics that are means over examples, in the order of `_example_values`."""

# Each fold has its own map. The map of a fold is higher if the fold itself has fewer right
# predictions than the others. A ranking of the examples of all folds together would therefore look
# worse than the ranking by any single map.
ORDER_KEPT_NOTE = "the map of the confidence keeps the order of the examples: unchanged"
CONFIDENCE_ONLY_NOTE = "the calibrator maps the confidence in the predicted option only: undefined"
NOT_REPORTED_NOTES = dict.fromkeys(RANKING_METRICS, ORDER_KEPT_NOTE) | dict.fromkeys(
    OPTION_METRICS, CONFIDENCE_ONLY_NOTE
)
"""Why a metric is not reported for calibrators that map the confidence only."""


def recalibrate(
    scores: ExampleScores,
    options: OptionScores,
    replicates: int,
    seed: int,
    looks: LookTimes = ONE_LOOK,
) -> dict[str, list[TableRow]]:
    """Rows of the tables recalibrated, calibrators and recalibrated_reliability, and of metrics.

    The resamples are those of `bootstrap.bootstrap_metrics`. They resample examples and keep the
    cross-fitted confidences. `looks` are the looks at the rows of a sequential run.
    """
    fitted = cross_fit(scores, options, seed)
    metrics = _RecalibratedMetrics(
        scores,
        options,
        fitted,
        statistics.bootstrap_weights(scores.is_explained.astype(int), replicates, seed),
        looks,
    )
    with ThreadPoolExecutor() as pool:
        rows_by_level = list(pool.map(metrics.level_rows, range(len(scores.levels))))
    rows = [row for level_rows in rows_by_level for row in level_rows]
    return {
        "recalibrated": [
            {name: row[name] for name in RECALIBRATED.schema if name in row} for row in rows
        ],
        "metrics": [metric_row(row) for row in rows if row["value"] is not None],
        "calibrators": [
            calibrator_row(level, name, fit)
            for name, fits in fitted.items()
            for level, fit in zip(scores.levels, fits, strict=True)
        ],
        "recalibrated_reliability": [
            {"level": level, "calibrator": name} | row
            for name, fits in fitted.items()
            for index, level in enumerate(scores.levels)
            if (confidence := fits[index].confidence) is not None
            for row in reliability_bins(confidence, scores.correct[index])
        ],
    }


class _RecalibratedMetrics:
    """The metrics of each calibrator at each level, all from the same resamples.

    A state is the run under one calibrator; state 0 is the run before recalibration.
    """

    def __init__(
        self,
        scores: ExampleScores,
        options: OptionScores,
        fitted: Mapping[str, list[CrossFittedCalibrator]],
        weights: NDArray[np.float32],
        looks: LookTimes,
    ) -> None:
        self.scores = scores
        self.options = options
        self.looks = looks
        self.fitted = fitted
        self.weights = weights
        self.baseline = scores.levels.index(0)
        self.shifts: AnyFloatArray = np.zeros(weights.shape[1])
        unpruned_fit = fitted[UNPRUNED_TEMPERATURE][self.baseline].calibrator
        if unpruned_fit is not None:
            self.shifts = log_temperature_shifts(
                options.log_likelihoods[self.baseline],
                options.gold[self.baseline],
                unpruned_fit.parameters["temperature"],
                weights,
            )
        uncalibrated = option_probabilities(options.log_likelihoods)
        states = [(scores.confidence, uncalibrated)]
        for fits in fitted.values():
            confidence = np.full(scores.confidence.shape, np.nan)
            probabilities = np.full(uncalibrated.shape, np.nan)
            for index, fit in enumerate(fits):
                if fit.confidence is not None:
                    confidence[index] = fit.confidence
                if fit.probabilities is not None:
                    probabilities[index] = fit.probabilities
            states.append((confidence, probabilities))
        self.example_values = [
            _example_values(confidence, probabilities, scores.correct, options.gold)
            for confidence, probabilities in states
        ]
        self.bootstrap = CalibrationBootstrap(
            np.concatenate([confidence for confidence, _ in states]),
            np.tile(scores.correct, (len(states), 1)),
            weights,
        )
        # The threads of `recalibrate` then find the metrics of the baseline in the cache.
        self.bootstrap.paired_metrics(self.baseline, self.baseline)

    def level_rows(self, index: int) -> list[TableRow]:
        """The rows of one level: every metric of every calibrator."""
        level = self.scores.levels[index]
        before = self._paired_metrics((0, index), (0, self.baseline))
        rows: list[TableRow] = []
        for state, name in enumerate(CALIBRATOR_NAMES, start=1):
            fit = self.fitted[name][index]
            key = {"level": level, "calibrator": name}
            if fit.confidence is None:
                failure = {"value": None, "n": before["ece"].n, "note": fit.failure_reason}
                rows += [key | {"metric": metric} | failure for metric in RECALIBRATED_METRICS]
                continue
            after = self._paired_metrics((state, index), (0, self.baseline))
            change = self._paired_metrics((state, index), (0, index))
            if name == UNPRUNED_TEMPERATURE and fit.probabilities is not None:
                slopes = metric_slopes(
                    fit.probabilities, float(self.shifts.std()), partial(self._values, index)
                )
                after = with_fit_variation(after, slopes, self.shifts)
                change = with_fit_variation(change, slopes, self.shifts)
            for metric in RECALIBRATED_METRICS:
                low, high = before[metric].interval(*value_range(metric, ""))
                row = {
                    **key,
                    "metric": metric,
                    "higher_is_better": METRIC_DEFINITIONS[metric].higher_is_better,
                    "before": before[metric].value,
                    "before_low": low,
                    "before_high": high,
                    "n": before[metric].n,
                }
                if fit.probabilities is not None or metric not in NOT_REPORTED_NOTES:
                    columns = recalibrated_columns(
                        metric, after[metric], change[metric], self.looks
                    )
                    rows.append(row | columns)
                else:
                    rows.append(row | {"value": None, "note": NOT_REPORTED_NOTES[metric]})
        return rows

    def _values(self, index: int, probabilities: FloatArray) -> dict[str, float]:
        """The RECALIBRATED_METRICS of one level, under these probabilities [examples, options]."""
        confidence, correct = probabilities.max(axis=1), self.scores.correct[index]
        known = ~np.isnan(confidence)
        values = calibration.calibration_metrics(
            confidence[known], correct[known], np.ones((known.sum(), 1))
        )
        means = _example_values(
            confidence[None], probabilities[None], correct[None], self.options.gold[index][None]
        )[0, known].mean(axis=0)
        return {name: float(value[0]) for name, value in values.items()} | dict(
            zip(MEAN_METRICS, means.tolist(), strict=True)
        )

    def _paired_metrics(
        self, of: tuple[int, int], baseline: tuple[int, int]
    ) -> dict[str, BootstrappedMetric]:
        """The RECALIBRATED_METRICS of one (state, level index), with another as the baseline."""
        level_count = len(self.scores.levels)
        (state, index), (baseline_state, baseline_index) = of, baseline
        calibration_metrics = self.bootstrap.paired_metrics(
            state * level_count + index, baseline_state * level_count + baseline_index
        )
        mean_metrics = paired_means(
            self.example_values[state][index],
            self.example_values[baseline_state][baseline_index],
            self.weights,
        )
        return calibration_metrics | dict(zip(MEAN_METRICS, mean_metrics, strict=True))


def _example_values(
    confidence: FloatArray, probabilities: FloatArray, correct: FloatArray, gold: NDArray[np.int64]
) -> FloatArray:
    """The values of each example whose means are MEAN_METRICS: [levels, examples, 3].

    `confidence`, `correct` and `gold` are [levels, examples], `probabilities` is [levels, examples,
    options].
    """
    right = np.take_along_axis(probabilities, np.maximum(gold, 0)[..., None], axis=2)[..., 0]
    brier = (probabilities**2).sum(axis=2) - 2 * right + 1
    return np.stack([(confidence - correct) ** 2, brier, -np.log(right)], axis=2)
