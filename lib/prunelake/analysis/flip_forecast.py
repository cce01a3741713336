"""Forecast flips: the share of predictions that a candidate changes, from a small pilot.

    rate, low, high = FlipModel(margins).forecast(is_pilot, is_flip)

The margin of an example is the baseline's log-likelihood of its best option minus that of the
second best. A candidate adds noise to the margin, and the prediction flips if the noise exceeds it.
With logistic noise of scale s, and a shift a of its log odds, the probability of a flip is

    P(flip | margin) = 1 / (1 + exp(margin / s - a))

A pilot of 30 to 100 examples leaves s and a uncertain, so the forecast averages over their
posterior on a grid. The prior of s is uniform in log s. The prior of a is standard normal: at a
margin of 0, both best options are equally likely. This is Bayesian logistic regression (Gelman and
others, Annals of Applied Statistics 2008, discuss such priors). docs/statistics.md compares the
forecast with the pilot's own rate.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, expit

from prunelake.analysis.statistics import CONFIDENCE_LEVEL
from prunelake.schema.arrays import FloatArray

_SHIFTS = np.linspace(-4.0, 4.0, 17)
_SCALES = np.geomspace(0.002, 5.0, 33)  # in means of the margins
_LEAST_PROBABILITY = 1e-9
"""Every flip is possible: a single flip at a large margin must not rule out every scale."""


class FlipForecast(NamedTuple):
    """The expected flip rate over the examples of the pilot and all others, with its interval."""

    rate: float
    low: float
    high: float


class FlipModel:
    """The probabilities of flips for the examples of a baseline, at every point of the grid.

    `margins` [examples] are finite and at least 0. Their unit does not matter.
    """

    def __init__(self, margins: FloatArray) -> None:
        mean = float(margins.mean())
        relative = margins / mean if mean > 0 else margins
        self._shifts = np.repeat(_SHIFTS, len(_SCALES))
        slopes = np.tile(1 / _SCALES, len(_SHIFTS))
        given_margin = expit(self._shifts - relative[:, None] * slopes)
        self._probabilities: FloatArray = np.clip(
            given_margin, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY
        )

    def forecast(
        self,
        is_pilot: NDArray[np.bool_],
        is_flip: NDArray[np.bool_],
        confidence: float = CONFIDENCE_LEVEL,
    ) -> FlipForecast:
        """Forecast the flip rate over all examples from the flips in a pilot.

        `is_pilot` [examples] says which examples are in the pilot, `is_flip` [pilot] which of these
        flipped. They count as observed. The interval covers the error of the parameters and the
        chance in each other example: a beta distribution with the mean and the variance of the
        posterior.
        """
        total, observed = len(is_pilot), int(is_flip.sum())
        of_others = self._probabilities[~is_pilot]
        if not len(of_others):
            return FlipForecast(observed / total, observed / total, observed / total)
        of_pilot = self._probabilities[is_pilot]
        log_posterior = np.log(np.where(is_flip[:, None], of_pilot, 1 - of_pilot)).sum(axis=0)
        log_posterior -= self._shifts**2 / 2
        weights = np.exp(log_posterior - log_posterior.max())
        weights /= weights.sum()
        rates = of_others.mean(axis=0)
        mean = float(weights @ rates)
        chance = (of_others * (1 - of_others)).sum(axis=0) / len(of_others) ** 2
        variance = float(weights @ ((rates - mean) ** 2 + chance))
        low, high = _beta_interval(mean, variance, confidence)
        flips = (observed + len(of_others) * np.array([mean, low, high])) / total
        return FlipForecast(*map(float, flips))


def _beta_interval(mean: float, variance: float, confidence: float) -> tuple[float, float]:
    """The equal-tailed interval of the beta distribution with this mean and variance."""
    # A single example flips or does not: the count is 0, and the distribution has no density.
    count = max(mean * (1 - mean) / variance - 1, 1e-6)
    tail = (1 - confidence) / 2
    low, high = betaincinv(mean * count, (1 - mean) * count, [tail, 1 - tail])
    return float(low), float(high)
