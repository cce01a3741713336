"""The number of examples that decides an undecided check, if its loss is the true loss."""

import math

from scipy.special import bdtr, bdtrc, bdtrik, ndtri

from prunelake.analysis.power import MAX_EXAMPLES
from prunelake.analysis.statistics import tango_score
from prunelake.gate.evidence import Evidence
from prunelake.gate.margin_tests import ONE_SIDED_LEVEL, CountSample, PairedCounts
from prunelake.schema.verdicts import DEFAULT_POWER

POWER_QUANTILE = float(ndtri(DEFAULT_POWER))


def examples_needed(evidence: Evidence, margin: float, count: int) -> int | None:
    """The examples that decide one of `count` undecided checks; None if no number is known.

    If the present examples should have been enough, a few more rarely decide, so the number is at
    least 1.5 times the present one (as in the view `verdicts`).
    """
    planned = planned_examples(evidence, margin, count)
    if planned is None or not evidence.n or planned > evidence.n:
        return planned
    return math.ceil(1.5 * evidence.n)


def planned_examples(evidence: Evidence, margin: float, count: int) -> int | None:
    """The examples at which one of `count` checks is decided with a probability of 80 %.

    None if no number is known. A loss below the margin is to pass; a loss above it is to fail, at
    the first step of Holm's correction.
    """
    loss, n = evidence.loss, evidence.n
    if loss is None or not n or evidence.high is None or evidence.low is None or loss == margin:
        return None
    sample = evidence.looks[-1].sample if evidence.looks else None
    level = ONE_SIDED_LEVEL if loss < margin else ONE_SIDED_LEVEL / count
    if isinstance(sample, CountSample):
        return _trials_needed(sample.count / sample.n, margin, level)
    # A half width and a standard error are proportional to 1 / sqrt(n).
    quantile = -float(ndtri(level))
    if isinstance(sample, PairedCounts):
        # The score divides the distance from the margin by the error that a loss by the margin has.
        score = tango_score(sample.lost, sample.won, sample.n, -margin)
        reach = quantile * abs((margin - loss) / score)
    elif loss < margin:
        reach = evidence.high - loss
    else:
        reach = (loss - evidence.low) * quantile / -float(ndtri(ONE_SIDED_LEVEL))
    needed = n * ((reach + POWER_QUANTILE * (evidence.se or 0.0)) / (margin - loss)) ** 2
    return math.ceil(needed) if needed < MAX_EXAMPLES else None


def _trials_needed(share: float, margin: float, level: float) -> int | None:
    """The examples at which an exact binomial test at `level` shows the side of a share."""

    def is_enough(n: int) -> bool:
        if share > margin:
            # The largest count that is not significant; bdtrc counts the larger ones.
            largest = math.ceil(bdtrik(1 - level, n, margin))
            return bool(bdtrc(largest, n, share) >= DEFAULT_POWER)
        if (1 - margin) ** n > level:
            return False  # not even a count of 0 passes
        return bool(bdtr(math.floor(bdtrik(level, n, margin)), n, share) >= DEFAULT_POWER)

    high = 1
    while not is_enough(high):
        high *= 2
        if high > MAX_EXAMPLES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
