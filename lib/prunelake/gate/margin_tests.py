"""Tests at a margin: is a metric shown to be worse than the baseline by more than the margin?

Each test has its p-value under the hypothesis that the loss is at most the margin, so it is
one-sided. The loss is the change in the worse direction. A sample is what one look at the examples
has shown; the p-value of several looks is the smallest of their repeated p-values
(`analysis.sequential`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtrc, ndtr, stdtr

from prunelake.analysis.sequential import ONE_LOOK, LookTimes, repeated_p_value
from prunelake.analysis.statistics import tango_score

ONE_SIDED_LEVEL = 0.05
"""The level of the test of one criterion, and the error rate of all failures of a gate."""


@dataclass(frozen=True)
class MeanSample:
    """A loss over `n` examples with its standard error; `loss` is its least value without bias."""

    n: int
    loss: float
    se: float

    def p_value(self, margin: float) -> float:
        """The p-value of a loss of at most `margin`: Student's t with n - 1 degrees of freedom."""
        return float(stdtr(self.n - 1, (margin - self.loss) / self.se))


@dataclass(frozen=True)
class PairedCounts:
    """Examples that are right only at level 0 (`lost`) and only at the candidate (`won`)."""

    n: int
    lost: int
    won: int

    def p_value(self, margin: float) -> float:
        """The p-value of a loss of at most `margin`: the score test of Tango (1998)."""
        return float(ndtr(tango_score(self.lost, self.won, self.n, -margin)))


@dataclass(frozen=True)
class CountSample:
    """A share of `count` of `n` examples; it is 0 at level 0, so the share is the loss."""

    n: int
    count: int

    def p_value(self, margin: float) -> float:
        """The p-value of a share of at most `margin`: the exact binomial test."""
        return 1.0 if self.count == 0 else float(bdtrc(self.count - 1, self.n, margin))


Sample = MeanSample | PairedCounts | CountSample


@dataclass(frozen=True)
class SampleAtLook:
    """What one look has shown; `times` are the times of the looks up to this look."""

    sample: Sample
    times: LookTimes = ONE_LOOK


def worse_p_value(looks: Sequence[SampleAtLook], margin: float) -> float:
    """The p-value of a loss of at most the margin, over all looks; 1 without evidence."""
    return min(
        (
            repeated_p_value(look.times.times, look.sample.p_value(margin))
            for look in looks
            if look.times.times
        ),
        default=1.0,
    )


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm's correction (Scandinavian Journal of Statistics 1979).

    The probability of any p-value at most `alpha` under its true hypothesis is at most `alpha`,
    however the tests depend on each other.
    """
    count = len(p_values)
    adjusted, largest = [1.0] * count, 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
