"""Decide the checks of a gate: passed, failed or undecided.

A check passes if the one-sided 95 % bound of its loss is below the margin. All checks must pass, so
the gate passes wrongly with a probability of at most 5 %, however many checks it has (intersection-
union test: Berger, Technometrics 1982). A check fails if its loss is shown to exceed the margin.
One failure fails the gate, so the p-values of all checks share 5 % (`margin_tests.holm_adjusted`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prunelake.gate.evidence import Evidence
from prunelake.gate.margin_tests import ONE_SIDED_LEVEL, holm_adjusted, worse_p_value
from prunelake.gate.needed_examples import examples_needed
from prunelake.gate.results import Result


@dataclass(frozen=True)
class Decision:
    """The result of one check.

    `p_value` tests the hypothesis that the loss is at most the margin, and `adjusted` is this value
    after the correction for all checks. `n_needed` is the number of examples that decide an
    undecided check with a probability of 80 % if its loss is the true loss.
    """

    result: Result
    p_value: float
    adjusted: float
    n_needed: int | None


def decide(evidence: Sequence[Evidence], margins: Sequence[float]) -> list[Decision]:
    """The decisions of all checks of a gate, from the evidence and the margin of each."""
    p_values = [
        worse_p_value(found.looks, margin) for found, margin in zip(evidence, margins, strict=True)
    ]
    decisions = []
    for found, margin, p_value, adjusted in zip(
        evidence, margins, p_values, holm_adjusted(p_values), strict=True
    ):
        needed = None
        if adjusted <= ONE_SIDED_LEVEL:
            result = Result.failed
        elif found.high is not None and found.high < margin:
            result = Result.passed
        else:
            result = Result.undecided
            needed = examples_needed(found, margin, len(evidence))
        decisions.append(Decision(result, p_value, adjusted, needed))
    return decisions
