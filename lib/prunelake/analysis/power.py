"""The power of paired tests, and the number of examples that a verdict needs.

    examples_needed(PairedSpread(0.2), changes=[0.0, 0.02], margin=0.02, power=0.8)

A verdict is decided if the change of a metric is shown to lie within its margin (two one-sided
tests at 5 %), or if it is significant (one two-sided test at 5 %). It is right if the true change
does lie within the margin, or has the sign that the test shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrik, chdtri, ndtr, ndtri, stdtrit

from prunelake.analysis.statistics import CONFIDENCE_LEVEL, EQUIVALENCE_CONFIDENCE_LEVEL
from prunelake.schema.arrays import FloatArray
from prunelake.schema.verdicts import DEFAULT_POWER

MAX_EXAMPLES = 1e12
"""The search ends at this number of examples."""

MAX_EXACT_EXAMPLES = 10_000
"""Beyond, the number of examples for a share comes from normal theory, which is then within 1 %."""

_PILOT_QUANTILES = (np.arange(64) + 0.5) / 64


@dataclass(frozen=True)
class PairedSpread:
    """The spread of a metric's difference between two levels.

    `sd` is the standard error of the difference times sqrt(n); for a mean it is the standard
    deviation of the differences of single examples. `excess` is the part of the half width of the
    equivalence interval that does not come from this error (its extension for bias), also times
    sqrt(n). `degrees` are the degrees of freedom of `sd` where it was measured; None where it is
    assumed. For accuracy `is_proportion` is true: `sd` is the square root of the share of
    discordant examples, and so the standard deviation where nothing changes.
    """

    sd: float
    excess: float = 0.0
    degrees: float | None = None
    is_proportion: bool = False


def right_verdict_power(
    n: FloatArray, changes: FloatArray, spread: PairedSpread, margin: float
) -> FloatArray:
    """The probability of a right verdict with `n` [changes] examples, for each true change.

    Normal theory with Student's quantiles. The power is averaged over the error of a measured
    spread: with few degrees of freedom more examples are needed (Julious and Owen, Pharmaceutical
    Statistics 2006). A proportion has the standard deviation sqrt(d - change^2), where d is the
    share of discordant examples; McNemar's exact test loses one example.
    """
    change = np.abs(changes)[:, None]
    root_n = np.sqrt(n)[:, None]
    degrees = n[:, None] - 1
    variance = np.array([[spread.sd**2]])
    if spread.degrees is not None:
        variance = variance * spread.degrees / chdtri(spread.degrees, _PILOT_QUANTILES)
    sd = margin_sd = null_sd = np.sqrt(variance)
    lost_to_exactness = 0.0
    if spread.is_proportion:
        sd = np.sqrt(np.maximum(variance, change) - change**2)
        margin_sd = _sd_at_margin(np.maximum(variance, change), change, margin)
        null_sd = np.sqrt(np.maximum(variance, change))
        lost_to_exactness = 1.0
    largest_equivalent = (
        margin
        - (stdtrit(degrees, (1 + EQUIVALENCE_CONFIDENCE_LEVEL) / 2) * margin_sd + spread.excess)
        / root_n
    )
    least_significant = (
        stdtrit(degrees, (1 + CONFIDENCE_LEVEL) / 2) * null_sd + lost_to_exactness / root_n
    ) / root_n

    def below(bound: FloatArray) -> FloatArray:
        """The probability that the estimate lies below a bound."""
        with np.errstate(divide="ignore", invalid="ignore"):
            probability: FloatArray = ndtr((bound - change) * root_n / sd)
        return np.where(np.isnan(probability), 0.0, probability)

    equivalent = np.where(
        largest_equivalent > 0, below(largest_equivalent) - below(-largest_equivalent), 0.0
    )
    equivalent = np.where(change < margin, equivalent, 0.0)
    significant = np.where(change > 0, 1 - below(least_significant), 0.0)
    both = np.where(
        (equivalent > 0) & (significant > 0),
        np.maximum(below(largest_equivalent) - below(least_significant), 0.0),
        0.0,
    )
    power: FloatArray = (equivalent + significant - both).mean(axis=1)
    return power


def _sd_at_margin(discordant: FloatArray, change: FloatArray, margin: float) -> FloatArray:
    """The standard deviation that Tango's test assumes: under a change by the margin.

    `discordant` is the share of discordant examples; see `statistics.tango_interval`.
    """
    lost = (discordant - change) / 2
    b = (2 - change) * margin - discordant
    losing = (np.sqrt(b**2 + 8 * lost * margin * (1 - margin)) - b) / 4
    sd: FloatArray = np.sqrt(2 * losing + margin * (1 - margin))
    return sd


def examples_needed(
    spread: PairedSpread, changes: Sequence[float], margin: float, power: float = DEFAULT_POWER
) -> NDArray[np.int64]:
    """The smallest number of examples with this power of a right verdict, for each true change."""
    given = np.asarray(changes, dtype=float)
    low, high = np.full(len(given), 1.0), np.full(len(given), 2.0)
    while True:
        is_short = right_verdict_power(high, given, spread, margin) < power
        if not is_short.any() or high.max() > MAX_EXAMPLES:
            break
        low, high = np.where(is_short, high, low), np.where(is_short, 2 * high, high)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        is_short = right_verdict_power(middle, given, spread, margin) < power
        low, high = np.where(is_short, middle, low), np.where(is_short, high, middle)
    return high.astype(np.int64)


def examples_for_changes_between(
    low: float, high: float, spread: PairedSpread, margin: float, power: float = DEFAULT_POWER
) -> int:
    """The number of examples with this power for every true change between two bounds.

    A change of about half the margin needs the most examples: it is hard to tell from no change and
    from a change as large as the margin. No change beyond the margin needs more examples than a
    change at the margin.
    """
    smallest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    largest = max(smallest, min(margin, max(abs(low), abs(high))))
    changes = np.linspace(smallest, largest, 21)
    return int(examples_needed(spread, list(changes), margin, power).max())


def examples_for_share(rate: float, margin: float, power: float = DEFAULT_POWER) -> int | None:
    """The examples that show on which side of `margin` a share lies, if `rate` is the truth.

    The exact binomial test at 5 % of a share of at least (or at most) the margin decides with this
    power, and with any larger number of examples: the power of an exact test is not monotone in the
    number of examples (Chernick and Liu, The American Statistician 2002). None if no number of up
    to MAX_EXAMPLES is enough, because the rate is at the margin.
    """
    if rate > margin:  # the complement lies below its margin
        return examples_for_share(1 - rate, 1 - margin, power)
    alpha = (1 - EQUIVALENCE_CONFIDENCE_LEVEL) / 2
    # The arcsine of the root of a share has the standard error 1 / (2 sqrt(n)).
    distance = 2 * (np.arcsin(np.sqrt(margin)) - np.arcsin(np.sqrt(rate)))
    reach = float(ndtri(1 - alpha) + ndtri(power))
    if distance * np.sqrt(MAX_EXAMPLES) < reach:
        return None
    about = (reach / distance) ** 2
    if about > MAX_EXACT_EXAMPLES:
        return int(np.ceil(about))
    n = np.arange(1, int(2 * about) + 200)
    most = np.floor(bdtrik(alpha, n, margin))  # the largest count that shows a smaller share
    most = np.where(bdtr(np.maximum(most, 0), n, margin) > alpha, most - 1, most)
    is_short = np.where(most < 0, 0.0, bdtr(np.maximum(most, 0), n, rate)) < power
    return int(n[is_short][-1]) + 1
