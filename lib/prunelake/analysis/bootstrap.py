"""Bootstrap of every metric at every level, and of its difference from level 0."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis import calibration, statistics
from prunelake.analysis.example_scores import ExampleScores, MetricKey
from prunelake.analysis.sequential import ONE_LOOK, LookTimes
from prunelake.analysis.statistics import CONFIDENCE_LEVEL
from prunelake.analysis.text_scores import TextScores, perplexities
from prunelake.schema.arrays import AnyFloatArray, BoolArray, FloatArray

PERPLEXITY_KEY: MetricKey = ("perplexity", "", "", "")

OPTIMISM_SIGNS = {"brier_calibration": 1, "brier_refinement": -1}
"""The optimism of the fit raises calibration and lowers refinement by the same amount."""

UNDEFINED_REASONS = {
    "auroc": "all predictions are right, or none",
    "ece_debiased": "a bin of fewer than 2 examples",
}


class PairedDifference(NamedTuple):
    """A difference of two values over the same examples.

    [`low`, `high`] is its 95 % interval and [`equivalence_low`, `equivalence_high`] its 90 %
    interval. `p_value` tests that there is no difference. All are NaN where the standard error is
    unknown.
    """

    value: float
    se: float
    low: float
    high: float
    equivalence_low: float
    equivalence_high: float
    p_value: float


class BootstrappedMetric(NamedTuple):
    """A metric at one level, and its comparison with a baseline.

    `value` is over the `n` examples that the level has. `paired_value` and `baseline_value` are
    over the `paired_n` examples that the level and the baseline both have. `replicates`
    [replicates] are resamples of `value`, `differences` [replicates] of paired_value -
    baseline_value. Each bias is the largest possible bias of its value (`statistics.bias_bound`).
    """

    value: float
    n: int
    replicates: AnyFloatArray
    bias: float
    paired_value: float
    paired_bias: float
    baseline_value: float
    baseline_bias: float
    paired_n: int
    differences: AnyFloatArray

    @property
    def estimate(self) -> statistics.Estimate:
        """The value with its standard error."""
        return statistics.bootstrap_estimate(self.value, self.n, self.replicates)

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """The 95 % interval of the value, cut to the range [low, high] of the metric."""
        ci_low, ci_high = self.estimate.interval(CONFIDENCE_LEVEL, self.bias)
        return max(ci_low, low), min(ci_high, high)

    @property
    def difference(self) -> PairedDifference:
        """The paired value less the baseline value."""
        return self.difference_at(ONE_LOOK)

    def difference_at(self, looks: LookTimes) -> PairedDifference:
        """The paired difference at the last of several looks: repeated intervals and p-value."""
        delta = self.paired_value - self.baseline_value
        estimate = statistics.bootstrap_estimate(delta, self.paired_n, self.differences)
        # Equal biases cancel. A bias of only one of the values may hide or feign a change of its
        # own size. The data do not show which, so intervals cover every case.
        biases = self.paired_bias - self.baseline_bias, self.paired_bias, -self.baseline_bias
        low, high = estimate.interval(looks.confidence, *biases)
        equivalence_low, equivalence_high = estimate.interval(looks.equivalence_confidence, *biases)
        return PairedDifference(
            value=delta,
            se=estimate.se,
            low=low,
            high=high,
            equivalence_low=equivalence_low,
            equivalence_high=equivalence_high,
            p_value=looks.p_value(statistics.paired_t_p_value(delta, estimate.se, self.paired_n)),
        )


def undefined_reason(metric: str, value: float, n: int, se: float) -> str | None:
    """Why the value or the standard error of a metric is unknown; None if both are known."""
    if n == 0:
        return "no example could be scored"
    if math.isnan(value):
        return UNDEFINED_REASONS.get(metric, "undefined")
    if n == 1:
        return "a single example"
    return "no variation among the examples" if math.isnan(se) else None


def bootstrap_metrics(
    scores: ExampleScores, replicates: int, seed: int
) -> list[dict[MetricKey, BootstrappedMetric]]:
    """Bootstrap every metric at every level, with level 0 as the baseline: one mapping per level.

    All metrics and levels use the same resamples, so that their differences are paired.
    """
    weights = statistics.bootstrap_weights(scores.strata, replicates, seed)
    bootstrap = CalibrationBootstrap(scores.confidence, scores.correct, weights)
    baseline = scores.levels.index(0)
    # The threads below then find the metrics of the baseline in the cache.
    bootstrap.paired_metrics(baseline, baseline)
    indices = range(len(scores.levels))
    with ThreadPoolExecutor() as pool:
        mean_metrics = pool.map(
            lambda index: _mean_metrics(scores, index, baseline, weights), indices
        )
        calibration_metrics = pool.map(
            lambda index: bootstrap.paired_metrics(index, baseline), indices
        )
        metrics = [
            of_means | {(name, "", "", ""): metric for name, metric in of_calibration.items()}
            for of_means, of_calibration in zip(mean_metrics, calibration_metrics, strict=True)
        ]
    if scores.texts is not None:
        for index, of_level in enumerate(metrics):
            of_level[PERPLEXITY_KEY] = paired_perplexity(scores.texts, index, baseline, weights)
    return metrics


def _mean_metrics(
    scores: ExampleScores, index: int, baseline: int, weights: NDArray[np.float32]
) -> dict[MetricKey, BootstrappedMetric]:
    optimism, baseline_optimism = float(scores.optimism[index]), float(scores.optimism[baseline])
    metrics = paired_means(scores.values[index], scores.values[baseline], weights)
    return {
        key: metric._replace(
            bias=optimism * OPTIMISM_SIGNS.get(key[0], 0),
            paired_bias=optimism * OPTIMISM_SIGNS.get(key[0], 0),
            baseline_bias=baseline_optimism * OPTIMISM_SIGNS.get(key[0], 0),
        )
        for key, metric in zip(scores.metric_keys, metrics, strict=True)
    }


def paired_means(
    values: FloatArray, baseline_values: FloatArray, weights: NDArray[np.float32]
) -> list[BootstrappedMetric]:
    """Bootstrap the mean of each column of `values`, paired with that of `baseline_values`.

    Both are [examples, columns]; NaN is ignored. A mean has no bias.
    """
    value, n, replicates = statistics.bootstrap_means(values, weights)
    delta, paired_n, differences = statistics.bootstrap_means(values - baseline_values, weights)
    baseline_value, _, _ = statistics.bootstrap_means(
        np.where(np.isnan(values), np.nan, baseline_values), weights[:, :0]
    )
    return [
        BootstrappedMetric(
            value=float(value[column]),
            n=int(n[column]),
            replicates=replicates[column],
            bias=0.0,
            paired_value=float(baseline_value[column] + delta[column]),
            paired_bias=0.0,
            baseline_value=float(baseline_value[column]),
            baseline_bias=0.0,
            paired_n=int(paired_n[column]),
            differences=differences[column],
        )
        for column in range(values.shape[1])
    ]


def paired_perplexity(
    texts: TextScores, index: int, baseline: int, weights: NDArray[np.float32]
) -> BootstrappedMetric:
    """Bootstrap the perplexity of the level at an index, paired with that of the baseline."""
    known = texts.is_known[index]
    in_both = known & texts.is_known[baseline]

    def of(level: int, members: BoolArray) -> FloatArray:
        """The perplexity of some examples, followed by those of their resamples."""
        everything = np.column_stack([np.ones(members.sum()), weights[members]])
        return perplexities(texts.nll[level][members], texts.tokens[level][members], everything)

    own, paired, unpruned = of(index, known), of(index, in_both), of(baseline, in_both)
    return BootstrappedMetric(
        value=float(own[0]),
        n=int(known.sum()),
        replicates=own[1:],
        bias=0.0,
        paired_value=float(paired[0]),
        paired_bias=0.0,
        baseline_value=float(unpruned[0]),
        baseline_bias=0.0,
        paired_n=int(in_both.sum()),
        differences=paired[1:] - unpruned[1:],
    )


class _MetricReplicates(NamedTuple):
    value: float
    replicates: AnyFloatArray


class CalibrationBootstrap:
    """Bootstrap of the CALIBRATION_METRICS of several series, each sample computed once.

    A series is the confidence and correctness of all examples under one state of the model.
    `confidence` and `correct` are [series, examples], NaN where an example could not be scored;
    `weights` is [examples, replicates].
    """

    def __init__(
        self, confidence: FloatArray, correct: FloatArray, weights: NDArray[np.float32]
    ) -> None:
        self.confidence = confidence
        self.correct = correct
        self.weights = weights
        self.cache: dict[tuple[int, bytes], dict[str, _MetricReplicates]] = {}

    def paired_metrics(self, series: int, baseline: int) -> dict[str, BootstrappedMetric]:
        """The CALIBRATION_METRICS of one series, with another series as the baseline."""
        known, baseline_known = ~np.isnan(self.confidence[[series, baseline]])
        in_both = known & baseline_known
        metrics = self.metrics(series, known)
        paired, unpruned = self.metrics(series, in_both), self.metrics(baseline, in_both)
        return {
            name: BootstrappedMetric(
                value=metrics[name].value,
                n=int(known.sum()),
                replicates=metrics[name].replicates,
                bias=statistics.bias_bound(*metrics[name]),
                paired_value=paired[name].value,
                paired_bias=statistics.bias_bound(*paired[name]),
                baseline_value=unpruned[name].value,
                baseline_bias=statistics.bias_bound(*unpruned[name]),
                paired_n=int(in_both.sum()),
                differences=paired[name].replicates - unpruned[name].replicates,
            )
            for name in metrics
        }

    def metrics(self, series: int, members: BoolArray) -> dict[str, _MetricReplicates]:
        """The CALIBRATION_METRICS of some examples of a series; `members` is [examples]."""
        cache_key = (series, members.tobytes())
        if cache_key not in self.cache:
            confidence = self.confidence[series][members]
            correct = self.correct[series][members]
            weights = self.weights
            if not members.all():
                weights = weights[members]
                weights[:, ~weights.any(axis=0)] = np.nan  # a resample without any member
            if len(confidence):
                replicates = calibration.calibration_metrics(confidence, correct, weights)
                values = calibration.calibration_metrics(
                    confidence, correct, np.ones((len(confidence), 1))
                )
            else:
                unknown = np.full(weights.shape[1], np.nan)
                replicates = dict.fromkeys(calibration.CALIBRATION_METRICS, unknown)
                values = dict.fromkeys(calibration.CALIBRATION_METRICS, unknown[:1])
            self.cache[cache_key] = {
                name: _MetricReplicates(float(values[name][0]), replicates[name]) for name in values
            }
        return self.cache[cache_key]
