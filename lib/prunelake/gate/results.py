"""The result of a gate: one check for each criterion, task and candidate."""

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from prunelake.gate.criterion import Direction
from prunelake.spec import FrozenValue


class Result(StrEnum):
    """The result of a check or of a whole gate."""

    passed = "passed"
    failed = "failed"
    undecided = "undecided"


EXIT_CODES = {Result.passed: 0, Result.failed: 1, Result.undecided: 3}
"""The exit codes of `prunelake gate`; 2 is an error in its use, its file or the lake."""


class Check(FrozenValue):
    """One criterion of one candidate on one task.

    Numbers are None where they are unknown; `note` says why.
    """

    metric: str
    task: str
    candidate: str
    run_id: str
    level: int
    method: str | None
    operator: str | None
    variant: str | None
    direction: Direction = Field(description="The better direction of the metric.")
    margin: float
    baseline_value: float | None
    value: float | None
    change: float | None = Field(description="value - baseline_value.")
    change_low: float | None = Field(description="The lower one-sided bound of change, at 95 %.")
    change_high: float | None = Field(description="The upper one-sided bound of change, at 95 %.")
    se: float | None = Field(description="The standard error of change.")
    n: int | None = Field(description="The number of examples with values on both sides.")
    p_worse: float = Field(description="The p-value of a loss of at most the margin.")
    p_worse_adjusted: float = Field(description="p_worse after Holm's correction over all checks.")
    result: Result
    n_needed: int | None = Field(
        description="The examples that would decide with a probability of 80 % if this change is "
        "the true change; None if the check is decided or no number of examples is known."
    )
    note: str | None


class GateResult(FrozenValue):
    """The result of a gate, with its checks.

    The gate has passed if all checks have passed, and failed if a check has failed. Otherwise it is
    undecided.
    """

    result: Result
    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 undecided."""
        return EXIT_CODES[self.result]

    def with_result(self, result: Result) -> list[Check]:
        """The checks with this result."""
        return [check for check in self.checks if check.result is result]

    @property
    def by_candidate(self) -> dict[str, Result]:
        """The result of each candidate, over all its checks."""
        labels = dict.fromkeys(check.candidate for check in self.checks)
        return {
            label: overall([check.result for check in self.checks if check.candidate == label])
            for label in labels
        }

    @property
    def summary(self) -> str:
        """The result in one sentence, and the result of each candidate if there are several."""
        counts = [
            f"{len(checks)} {result}" for result in Result if (checks := self.with_result(result))
        ]
        text = f"The gate {_PREDICATES[self.result]}: {', '.join(counts)}."
        if len(self.by_candidate) > 1:
            results = [
                f"{label} {_PREDICATES[found]}" for label, found in self.by_candidate.items()
            ]
            text += f" Candidates: {', '.join(results)}."
        return text


def overall(results: Sequence[Result]) -> Result:
    """The result of several checks: one failure fails them, and all must pass."""
    if Result.failed in results:
        return Result.failed
    is_passed = bool(results) and all(result is Result.passed for result in results)
    return Result.passed if is_passed else Result.undecided


_PREDICATES = {
    Result.passed: "has passed",
    Result.failed: "has failed",
    Result.undecided: "is undecided",
}
