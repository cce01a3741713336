"""Group-sequential tests: how strict a test must be if its data are tested repeatedly.

    nominal_level((0.25, 0.5, 1.0), 0.05)  # 0.044: almost 0.05 at the planned number of examples

Each look spends a part of the error. At the share t of the planned examples, the spent error is
alpha (1 - exp(4 t)) / (1 - exp(4)): the spending function of Hwang, Shih and DeCani (Statistics in
Medicine 1990) with gamma = -4. The boundaries follow by the recursion of Armitage, McPherson and
Rowe (JRSS A 1969) for normal estimates with independent increments, as Lan and DeMets (Biometrika
1983) use it: neither the number nor the times of later looks need to be known. Estimates that are
not normal are tested at the same nominal level (Jennison and Turnbull, Group Sequential Methods,
2000, section 3.8; intervals: chapter 9).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq
from scipy.special import ndtr

from prunelake.analysis.statistics import CONFIDENCE_LEVEL, EQUIVALENCE_CONFIDENCE_LEVEL
from prunelake.schema.arrays import FloatArray

SPENDING_GAMMA = -4.0

MIN_LOOK = 50
"""A look with fewer examples tests nothing: normal theory needs several tens of examples."""

SMALLEST_LEVEL = 1e-14
"""An error below this is not spent: no test is that strict."""

_NODES, _NODE_WEIGHTS = leggauss(96)
_TABLE_LEVELS: tuple[float, ...] = tuple(np.geomspace(1e-9, 0.9999, 60))


def spent_error(time: float, alpha: float) -> float:
    """The part of `alpha` that is spent at the share `time` of the planned examples."""
    return float(alpha * np.expm1(-SPENDING_GAMMA * time) / np.expm1(-SPENDING_GAMMA))


@lru_cache(maxsize=4096)
def nominal_level(times: tuple[float, ...], alpha: float) -> float:
    """The level of a one-sided test at the last of several looks, for a total error of `alpha`.

    `times` are the numbers of examples at the looks so far, ascending, divided by the planned
    number; looks after time 1 do not count.
    """
    boundary = _boundaries(times, alpha)[-1]
    return float(ndtr(-boundary))


@lru_cache(maxsize=1024)
def _level_table(times: tuple[float, ...]) -> tuple[FloatArray, FloatArray]:
    """Pairs of overall errors and the nominal levels at the last look, both as logarithms."""
    nominal = np.array([nominal_level(times, alpha) for alpha in _TABLE_LEVELS])
    is_spent = nominal > SMALLEST_LEVEL
    return np.log(np.array(_TABLE_LEVELS)[is_spent]), np.log(nominal[is_spent])


def repeated_p_value(times: tuple[float, ...], p_value: float) -> float:
    """The repeated p-value of a one-sided p-value at the last look.

    It is the smallest total error at which the sequence of tests rejects at this look. Without a
    difference, the smallest repeated p-value of all looks is at most `alpha` with probability
    `alpha`.
    """
    if len(times) == 1 and times[0] >= 1:
        return p_value
    overall, nominal = _level_table(times)
    if p_value <= 0:
        return float(np.exp(overall[0]))
    return float(min(1.0, np.exp(np.interp(np.log(p_value), nominal, overall, right=0.0))))


def look_times(counts: Sequence[int], planned: int) -> tuple[float, ...]:
    """The times of looks with these numbers of examples.

    Looks without new examples do not count, nor do looks with fewer than MIN_LOOK. All error is
    spent at the first look with the planned number.
    """
    times: list[float] = []
    for count in counts:
        time = min(1.0, count / planned)
        if count >= min(MIN_LOOK, planned) and (not times or time > times[-1]):
            times.append(time)
    return tuple(times)


@dataclass(frozen=True)
class LookTimes:
    """The times of the looks at one metric at one level, up to the present look.

    A single look at time 1 is a test with a fixed number of examples. Without any look, nothing is
    tested: intervals are as wide as possible, and p-values are 1.
    """

    times: tuple[float, ...] = (1.0,)

    @property
    def is_sequential(self) -> bool:
        """Whether the test differs from one with a fixed number of examples."""
        return self.times != (1.0,)

    @property
    def confidence(self) -> float:
        """The two-sided confidence at this look of an interval with 95 % over all looks."""
        return self._confidence(CONFIDENCE_LEVEL)

    @property
    def equivalence_confidence(self) -> float:
        """The confidence at this look of two one-sided tests, with 90 % over all looks."""
        return self._confidence(EQUIVALENCE_CONFIDENCE_LEVEL)

    def p_value(self, p_value: float) -> float:
        """The repeated p-value for a two-sided p-value at this look; NaN stays NaN."""
        if not self.is_sequential or np.isnan(p_value):
            return p_value
        if not self.times:
            return 1.0
        return min(1.0, 2 * repeated_p_value(self.times, p_value / 2))

    @property
    def factor(self) -> float:
        """The largest ratio of a repeated p-value to its p-value, for p-values from 1e-6 on."""
        if not self.times:
            return 1e6
        return repeated_p_value(self.times, 1e-6) / 1e-6 if self.is_sequential else 1.0

    def _confidence(self, overall: float) -> float:
        if not self.is_sequential:
            return overall
        level = nominal_level(self.times, (1 - overall) / 2) if self.times else 0.0
        return 1 - 2 * max(SMALLEST_LEVEL, level)


ONE_LOOK = LookTimes()


def _boundaries(times: tuple[float, ...], alpha: float) -> list[float]:
    """The boundary of the standardised estimate at each look."""
    boundaries: list[float] = []
    points, density = np.zeros(1), np.ones(1)  # the score is 0 before the first look
    spent = before = 0.0
    for time in times:
        increment = spent_error(time, alpha) - spent
        step = np.sqrt(time - before)
        if increment <= SMALLEST_LEVEL:
            score = np.inf
        else:

            def excess(
                bound: float,
                points: FloatArray = points,
                density: FloatArray = density,
                step: float = step,
                increment: float = increment,
            ) -> float:
                return float(density @ ndtr((points - bound) / step) - increment)

            score = float(brentq(excess, -9.0, 9.0 + 9 * np.sqrt(time), xtol=1e-10))
            spent += increment
        boundaries.append(score / np.sqrt(time))
        low = -8.0 * np.sqrt(time)
        high = min(score, 8.0 * np.sqrt(time))
        new_points = low + (high - low) * (_NODES + 1) / 2
        kernel = np.exp(-(((new_points[:, None] - points) / step) ** 2) / 2)
        kernel /= step * np.sqrt(2 * np.pi)
        density = (kernel @ density) * _NODE_WEIGHTS * (high - low) / 2
        points, before = new_points, time
    return boundaries
