"""The report on a round of `watch`: a line for each evaluation that is not in the lake."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prunelake.watch.decision import EvaluationState


@dataclass(frozen=True)
class RoundLine:
    """One line of the report on a round.

    `strategy` is that of a sweep, or names the baseline of a comparison. It and `task` are empty in
    a line about a whole model or entry.
    """

    model: str
    task: str
    strategy: str
    state: EvaluationState
    detail: str = ""


def summary(lines: Sequence[RoundLine]) -> str:
    """A round in one line: the number of evaluations in each state."""
    counts = Counter(line.state for line in lines)
    counted = ", ".join(f"{counts[state]} {state}" for state in EvaluationState if counts[state])
    return counted or "everything on the watchlist is in the lake"
