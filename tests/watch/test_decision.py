"""The decision on an evaluation, as a table of its last attempt and the runs in the lake."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from prunelake.lake.attempt_log import Attempt
from prunelake.watch.decision import (
    MAX_ATTEMPTS,
    Decision,
    EvaluationState,
    failed_attempt,
    format_time,
    next_step,
)
from prunelake.watch.launcher import AttemptOutcome

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
STARTED = NOW - timedelta(hours=2)
RUNNING = Attempt(
    key="0" * 16,
    watchlist="list.yaml",
    entry="model m",
    model="m",
    revision="r",
    task="opinions",
    strategy="cosine",
    state="running",
    number=2,
    nonce="n",
    started_at=STARTED,
)
SAME = RUNNING.model_copy(update={"state": "same"})
FAILED = failed_attempt(RUNNING, "out of memory", NOW)
READY = FAILED.model_copy(update={"retry_at": NOW})
PARKED = failed_attempt(RUNNING.model_copy(update={"number": MAX_ATTEMPTS}), "out of memory", NOW)
FAILS = AttemptOutcome(False, "flow run x failed")
CRASHED = AttemptOutcome(False, "flow run x crashed", is_machine_failure=True)
COMPLETED = AttemptOutcome(True, "flow run x completed")
ELSEWHERE = f"{COMPLETED.reason}, but its run is not in this lake: do the workers use another lake?"


def decide(
    attempt: Attempt | None, outcome: AttemptOutcome | None = None, **facts: Any
) -> Decision:
    defaults: dict[str, Any] = {"has_run": False, "has_task": False, "is_retry": False, "now": NOW}
    return next_step(attempt, outcome, **defaults | facts)


@pytest.mark.parametrize("attempt", [None, RUNNING, SAME, FAILED, PARKED])
@pytest.mark.parametrize("is_retry", [True, False])
def test_an_evaluation_in_the_lake_needs_no_attempt(
    attempt: Attempt | None, is_retry: bool
) -> None:
    assert decide(attempt, has_run=True, has_task=True, is_retry=is_retry) == Decision(None)


@pytest.mark.parametrize(
    ("attempt", "outcome", "facts", "expected"),
    [
        (None, None, {}, Decision(None, may_start=True)),
        # A run of the task under another spec is not this evaluation.
        (None, None, {"has_task": True}, Decision(None, may_start=True)),
        (SAME, None, {"has_task": True}, Decision(SAME)),
        (SAME, None, {}, Decision(SAME, may_start=True)),
        (
            RUNNING,
            None,
            {},
            Decision(
                RUNNING,
                state=EvaluationState.in_flight,
                detail=f"a process since {format_time(STARTED)}",
            ),
        ),
        # A retry does not start a sweep that still runs.
        (
            RUNNING.model_copy(update={"flow_run": "f"}),
            None,
            {"is_retry": True},
            Decision(
                RUNNING.model_copy(update={"flow_run": "f"}),
                state=EvaluationState.in_flight,
                detail=f"flow run f since {format_time(STARTED)}",
            ),
        ),
        (RUNNING, COMPLETED, {"has_task": True}, Decision(SAME)),
        (
            RUNNING,
            COMPLETED,
            {},
            Decision(
                failed_attempt(RUNNING, ELSEWHERE, NOW),
                state=EvaluationState.waiting,
                detail=f"until {format_time(NOW + timedelta(hours=2))}, "
                f"attempt 2 failed: {ELSEWHERE}",
            ),
        ),
        (
            RUNNING,
            FAILS,
            {"has_task": True},
            Decision(
                failed_attempt(RUNNING, FAILS.reason, NOW),
                state=EvaluationState.waiting,
                detail=f"until {format_time(NOW + timedelta(hours=2))}, "
                f"attempt 2 failed: {FAILS.reason}",
            ),
        ),
        (
            RUNNING,
            FAILS,
            {"is_retry": True},
            Decision(failed_attempt(RUNNING, FAILS.reason, NOW), may_start=True, failures=2),
        ),
        # Its machine failed: the same attempt starts again at once.
        (
            RUNNING,
            CRASHED,
            {},
            Decision(
                failed_attempt(RUNNING, CRASHED.reason, NOW, is_machine_failure=True),
                may_start=True,
                failures=1,
            ),
        ),
        (READY, None, {}, Decision(READY, may_start=True, failures=2)),
        (FAILED, None, {"is_retry": True}, Decision(FAILED, may_start=True, failures=2)),
        (
            PARKED,
            None,
            {},
            Decision(
                PARKED,
                state=EvaluationState.parked,
                detail="5 attempts failed, the last with: out of memory",
            ),
        ),
        (PARKED, None, {"is_retry": True}, Decision(PARKED, may_start=True, failures=5)),
    ],
)
def test_the_decision_follows_from_the_attempt_and_the_lake(
    attempt: Attempt | None,
    outcome: AttemptOutcome | None,
    facts: dict[str, Any],
    expected: Decision,
) -> None:
    assert decide(attempt, outcome, **facts) == expected


@pytest.mark.parametrize(("number", "hours"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, None)])
def test_the_delay_doubles_until_the_evaluation_is_parked(number: int, hours: int | None) -> None:
    failed = failed_attempt(RUNNING.model_copy(update={"number": number}), "reason", NOW)
    assert failed.retry_at == (None if hours is None else NOW + timedelta(hours=hours))


def test_after_a_machine_failure_a_sweep_goes_on_at_once_three_times_then_slowly() -> None:
    attempt, hours = RUNNING.model_copy(update={"number": MAX_ATTEMPTS}), []
    for count in range(1, 9):
        attempt = failed_attempt(attempt, "killed", NOW, is_machine_failure=True)
        assert attempt.failure == f"machine failure {count}: killed"
        assert attempt.retry_at is not None
        hours.append((attempt.retry_at - NOW) / timedelta(hours=1))
    assert hours == [0, 0, 0, 1, 2, 4, 8, 8]
    # A failure of the model counts as always, and begins the count of machine failures anew.
    failed = failed_attempt(attempt, "no weights", NOW)
    assert (failed.failure, failed.machine_failures, failed.retry_at) == ("no weights", 0, None)
