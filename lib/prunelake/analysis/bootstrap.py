"""Every metric of a level, and of its difference from level 0, over resamples of the examples."""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis import calibration, statistics
from prunelake.analysis.example_scores import ExampleScores, MetricKey
from prunelake.schema.arrays import AnyFloatArray, BoolArray, FloatArray

UNDEFINED_REASONS = {
    "auroc": "all predictions are right, or none",
    "ece_debiased": "a bin of fewer than 2 examples",
}


class PairedDifference(NamedTuple):
    """How far a value lies off another: its 95 % interval, the 90 % one, and p of no difference.

    NaN where the standard error is unknown.
    """

    value: float
    se: float
    low: float
    high: float
    equivalence_low: float
    equivalence_high: float
    p_value: float


def why_unknown(metric: str, value: float, n: int, se: float) -> str | None:
    """Why a metric's value, or its standard error, is not known; None where both are."""
    if n == 0:
        return "no example could be scored"
    if math.isnan(value):
        return UNDEFINED_REASONS.get(metric, "undefined")
    if n == 1:
        return "a single example"
    return "no variation among the examples" if math.isnan(se) else None


class BootstrappedMetric(NamedTuple):
    """One metric at one level, and beside level 0 over the examples known at both.

    `replicates` are of the value, `differences` of paired_value - unpruned_value: [replicates].
    Each value may lie off its truth by up to its bias on average.
    """

    value: float
    n: int
    replicates: AnyFloatArray
    bias: float
    paired_value: float
    paired_bias: float
    unpruned_value: float
    unpruned_bias: float
    paired_n: int
    differences: AnyFloatArray

    @property
    def estimate(self) -> statistics.Estimate:
        """The value with its standard error."""
        return statistics.bootstrap_estimate(self.value, self.n, self.replicates)

    def interval(self, low: float, high: float) -> tuple[float, float]:
        """The 95 % interval of the value, which lies in [low, high]."""
        ci_low, ci_high = self.estimate.interval(0.95, self.bias)
        return max(ci_low, low), min(ci_high, high)

    @property
    def difference(self) -> PairedDifference:
        """The paired value less the unpruned one."""
        delta = self.paired_value - self.unpruned_value
        found = statistics.bootstrap_estimate(delta, self.paired_n, self.differences)
        bias = self.paired_bias - self.unpruned_bias
        # Where there is no change both biases are alike; where there is one, the worse has less.
        beyond = -self.unpruned_bias if delta > 0 else self.paired_bias
        return PairedDifference(
            delta,
            found.se,
            *found.interval(0.95, bias, beyond),
            # Two biases that are alike may be so by chance, and hide a change as large as either.
            *found.interval(0.9, bias, self.paired_bias, -self.unpruned_bias),
            statistics.paired_t_p_value(delta, found.se, self.paired_n),
        )


def bootstrap_metrics(
    found: ExampleScores, replicates: int, seed: int
) -> list[Mapping[MetricKey, BootstrappedMetric]]:
    """Every metric at every level, all from the same resamples: paired by construction."""
    weights = statistics.bootstrap_weights(found.is_explained.astype(int), replicates, seed)
    scorer = CalibrationBootstrap(found.confidence, found.correct, weights)
    base = found.levels.index(0)
    scorer.paired_metrics(base, base)  # what every level is set beside; found ready by all
    places = range(len(found.levels))
    with ThreadPoolExecutor() as pool:
        means = pool.map(lambda place: _mean_metrics(found, place, base, weights), places)
        scores = pool.map(lambda place: scorer.paired_metrics(place, base), places)
        return [
            mean | {(name, "", "", ""): one for name, one in score.items()}
            for mean, score in zip(means, scores, strict=True)
        ]


def _mean_metrics(
    found: ExampleScores, place: int, base: int, weights: NDArray[np.float32]
) -> dict[MetricKey, BootstrappedMetric]:
    optimism, unpruned_optimism = float(found.optimism[place]), float(found.optimism[base])
    sign = {"brier_calibration": 1, "brier_refinement": -1}  # of those fitted to the sample
    every = paired_means(found.values[place], found.values[base], weights)
    return {
        cell: one._replace(
            bias=optimism * sign.get(cell[0], 0),
            paired_bias=optimism * sign.get(cell[0], 0),
            unpruned_bias=unpruned_optimism * sign.get(cell[0], 0),
        )
        for cell, one in zip(found.metric_keys, every, strict=True)
    }


def paired_means(
    own: FloatArray, other: FloatArray, weights: NDArray[np.float32]
) -> list[BootstrappedMetric]:
    """The mean over the examples of each column of own beside that of other: [examples, columns].

    NaN values do not count. A mean has no bias.
    """
    value, n, replicates = statistics.bootstrap_means(own, weights)
    delta, paired_n, differences = statistics.bootstrap_means(own - other, weights)
    other_value, _, _ = statistics.bootstrap_means(
        np.where(np.isnan(own), np.nan, other), weights[:, :0]
    )
    return [
        BootstrappedMetric(
            float(value[i]),
            int(n[i]),
            replicates[i],
            0.0,
            float(other_value[i] + delta[i]),
            0.0,
            float(other_value[i]),
            0.0,
            int(paired_n[i]),
            differences[i],
        )
        for i in range(own.shape[1])
    ]


class _MetricReplicates(NamedTuple):
    value: float
    replicates: AnyFloatArray


class CalibrationBootstrap:
    """The scores that are no means, each sample of a series computed once.

    A series is the confidence and correctness of the examples in one state of the model: rows of
    `confidence` and `correct` [series, examples], NaN where an example could not be scored.
    """

    def __init__(
        self, confidence: FloatArray, correct: FloatArray, weights: NDArray[np.float32]
    ) -> None:
        self.confidence = confidence
        self.correct = correct
        self.weights = weights
        self.cache: dict[tuple[int, bytes], dict[str, _MetricReplicates]] = {}

    def paired_metrics(self, place: int, base: int) -> dict[str, BootstrappedMetric]:
        """Every score of one series, and beside another: of calibration.SCORES."""
        known = ~np.isnan(self.confidence[[place, base]])
        own = self.metrics(place, known[0])
        both = known[0] & known[1]
        paired, unpruned = self.metrics(place, both), self.metrics(base, both)
        return {
            name: BootstrappedMetric(
                own[name].value,
                int(known[0].sum()),
                own[name].replicates,
                statistics.bias_bound(*own[name]),
                paired[name].value,
                statistics.bias_bound(*paired[name]),
                unpruned[name].value,
                statistics.bias_bound(*unpruned[name]),
                int(both.sum()),
                paired[name].replicates - unpruned[name].replicates,
            )
            for name in own
        }

    def metrics(self, place: int, members: BoolArray) -> dict[str, _MetricReplicates]:
        """The scores of some members of a series."""
        key = (place, members.tobytes())
        if key not in self.cache:
            confidence = self.confidence[place][members]
            correct = self.correct[place][members]
            weights = self.weights
            if not members.all():
                weights = weights[members]
                weights[:, ~weights.any(axis=0)] = np.nan  # a resample of none of them
            if len(confidence):
                replicates = calibration.calibration_metrics(confidence, correct, weights)
                values = calibration.calibration_metrics(
                    confidence, correct, np.ones((len(confidence), 1))
                )
            else:
                unknown = np.full(weights.shape[1], np.nan)
                replicates = dict.fromkeys(calibration.CALIBRATION_METRICS, unknown)
                values = dict.fromkeys(calibration.CALIBRATION_METRICS, unknown[:1])
            self.cache[key] = {
                name: _MetricReplicates(float(values[name][0]), replicates[name]) for name in values
            }
        return self.cache[key]
