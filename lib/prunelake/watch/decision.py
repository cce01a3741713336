"""The decision on one evaluation of a round: start it, wait, or leave it alone."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from prunelake.lake.attempt_log import Attempt
from prunelake.watch.launcher import AttemptOutcome

FIRST_RETRY_DELAY = timedelta(hours=1)
"""The delay after the first failure; each further failure doubles it."""

MAX_RETRY_DELAY = timedelta(hours=8)
"""The longest delay."""

MAX_ATTEMPTS = 5
"""An evaluation is parked after this many failures of its model or data."""

IMMEDIATE_RETRIES = 3
"""Up to this many machine failures in a row, a sweep continues at once; then it waits."""


class EvaluationState(StrEnum):
    """The state of an evaluation, a model or an entry after a round."""

    missing = "missing"  # in a dry run only: a real round would start it
    started = "started"
    evaluated = "evaluated"
    in_flight = "in flight"
    failed = "failed"
    waiting = "waiting"
    parked = "parked"
    skipped = "skipped"
    unreachable = "hub not reached"


@dataclass(frozen=True)
class Decision:
    """The decision on one evaluation.

    `attempt` is the attempt to keep in the log; None to keep none. If `may_start`, the evaluation
    may start after all evaluations with fewer `failures`. Otherwise the round reports `state` and
    `detail`; `state` is None if the lake has the result.
    """

    attempt: Attempt | None
    may_start: bool = False
    failures: int = 0
    state: EvaluationState | None = None
    detail: str = ""


def next_step(
    attempt: Attempt | None,
    outcome: AttemptOutcome | None,
    *,
    has_run: bool,
    has_task: bool,
    is_retry: bool,
    now: datetime,
) -> Decision:
    """Decide on an evaluation from its last attempt and the runs in the lake.

    `outcome` is the outcome of a running attempt; None if it still runs. `has_run`: the lake has
    this evaluation. `has_task`: the lake has any run of this revision on this task. `is_retry`
    starts failed and parked evaluations at once, and keeps the count of their failures.
    """
    if has_run:
        return Decision(attempt=None)
    if attempt is None:
        return Decision(attempt=None, may_start=True)
    if attempt.state == "same":
        # The run that the attempt found may have been deleted later.
        return Decision(attempt, may_start=not has_task)
    if attempt.state == "running":
        if outcome is None:
            process = f"flow run {attempt.flow_run}" if attempt.flow_run else "a process"
            since = f"{process} since {format_time(attempt.started_at)}"
            return Decision(attempt, state=EvaluationState.in_flight, detail=since)
        if outcome.is_success and has_task:
            return Decision(attempt.model_copy(update={"state": "same"}))
        reason = outcome.reason
        if outcome.is_success:
            reason += ", but its run is not in this lake: do the workers use another lake?"
        attempt = failed_attempt(
            attempt, reason, now, is_machine_failure=outcome.is_machine_failure
        )
    # A machine failure says nothing about the model: the attempt with this number starts again.
    failures = attempt.number - (attempt.machine_failures > 0)
    if is_retry:
        return Decision(attempt, may_start=True, failures=failures)
    if attempt.retry_at is None:
        detail = f"{attempt.number} attempts failed, the last with: {attempt.failure}"
        return Decision(attempt, state=EvaluationState.parked, detail=detail)
    if now < attempt.retry_at:
        until = f"until {format_time(attempt.retry_at)}"
        detail = f"{until}, attempt {attempt.number} failed: {attempt.failure}"
        return Decision(attempt, state=EvaluationState.waiting, detail=detail)
    return Decision(attempt, may_start=True, failures=failures)


def failed_attempt(
    attempt: Attempt, reason: str, now: datetime, *, is_machine_failure: bool = False
) -> Attempt:
    """The attempt as failed, with the time of the next attempt.

    After a machine failure the next attempt starts at once; after more than `IMMEDIATE_RETRIES`
    machine failures in a row it waits. After `MAX_ATTEMPTS` failures of the model or the data there
    is no next attempt (None).
    """
    if is_machine_failure:
        machine_failures = attempt.machine_failures + 1
        slow_retries = machine_failures - IMMEDIATE_RETRIES
        delay = _delay(slow_retries) if slow_retries > 0 else timedelta(0)
    else:
        machine_failures = 0
        delay = _delay(attempt.number)
    is_parked = not is_machine_failure and attempt.number >= MAX_ATTEMPTS
    retry_at = None if is_parked else now + delay
    changes = {"reason": reason, "machine_failures": machine_failures, "retry_at": retry_at}
    return attempt.model_copy(update={"state": "failed", **changes})


def _delay(failures: int) -> timedelta:
    doublings = min(failures - 1, 8)
    return min(FIRST_RETRY_DELAY * (1 << doublings), MAX_RETRY_DELAY)


def format_time(moment: datetime) -> str:
    """A time in the time zone of this machine, such as 28 Nov 03:15."""
    return f"{moment.astimezone():%d %b %H:%M}"
