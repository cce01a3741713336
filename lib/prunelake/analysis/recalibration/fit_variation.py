"""How much a recalibrated metric varies with the temperature, and the temperature with the sample.

The interval of a recalibrated metric keeps the fitted map. This suffices for a map that is fitted
to the level itself: near the best fit, the metric hardly depends on the map. The temperature of
level 0 is not the best fit for another level, so its error moves the metric there in proportion.
The delta method adds this variation: each resample of the examples moves the temperature by one
Newton step, and the metric by its slope.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis.bootstrap import BootstrappedMetric
from prunelake.analysis.calibrators import log_probabilities
from prunelake.analysis.confidence import option_probabilities
from prunelake.schema.arrays import AnyFloatArray, FloatArray

MAX_SHIFT = 0.5
"""The largest step of log(temperature): a longer Newton step only shows that the nll is flat."""


def log_temperature_shifts(
    log_likelihoods: FloatArray,
    gold: NDArray[np.int64],
    temperature: float,
    weights: NDArray[np.float32],
) -> AnyFloatArray:
    """The change of log(temperature) in each resample: [replicates].

    `temperature` is the best fit to the scored examples. `log_likelihoods` is [examples, options],
    all NaN for an example that could not be scored, `gold` [examples], `weights` [examples,
    replicates]. One Newton step on the nll of the resample approximates the fit to it.
    """
    known = ~np.isnan(log_likelihoods).any(axis=1)
    logarithms = log_probabilities(log_likelihoods[known], temperature)
    p = np.exp(logarithms)
    scaled = np.where(p > 0, logarithms, 0.0)  # log p has the differences of the scaled options
    centre = (p * scaled).sum(axis=1)
    slope = logarithms[np.arange(len(p)), gold[known]] - centre
    curvature = (p * (scaled - centre[:, None]) ** 2).sum(axis=1) - slope
    chosen = weights[known].astype(np.float64)
    shifts: AnyFloatArray = -(slope @ chosen) / (curvature @ chosen)
    return np.clip(shifts, -MAX_SHIFT, MAX_SHIFT)


def metric_slopes(
    probabilities: FloatArray,
    step: float,
    metrics: Callable[[FloatArray], Mapping[str, float]],
) -> dict[str, float]:
    """The slope of each metric in log(temperature), measured over `step` in both directions.

    `probabilities` is [examples, options], under the present temperature. `metrics` computes the
    metrics of such probabilities. Without a step all slopes are 0: every resample of a nearly
    random model moves the temperature by MAX_SHIFT, so it does not vary.
    """
    if step == 0:
        return dict.fromkeys(metrics(probabilities), 0.0)
    with np.errstate(divide="ignore"):  # a missing option has probability 0
        logarithms = np.log(probabilities)
    warm, cold = (
        metrics(option_probabilities(logarithms / np.exp(sign * step))) for sign in (1, -1)
    )
    slopes = {name: (warm[name] - cold[name]) / (2 * step) for name in warm}
    return {name: 0.0 if np.isnan(slope) else slope for name, slope in slopes.items()}


def with_fit_variation(
    metrics: Mapping[str, BootstrappedMetric], slopes: Mapping[str, float], shifts: AnyFloatArray
) -> dict[str, BootstrappedMetric]:
    """The metrics with replicates that include the variation of the temperature.

    `shifts` [replicates] are those of `log_temperature_shifts`, `slopes` those of `metric_slopes`.
    """
    return {
        name: metric._replace(
            replicates=metric.replicates + slopes[name] * shifts,
            differences=metric.differences + slopes[name] * shifts,
        )
        for name, metric in metrics.items()
    }
