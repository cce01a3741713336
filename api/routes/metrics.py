"""GET /metrics: the state of the lake and of the server for monitors, in the OpenMetrics format."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from fastapi import APIRouter, Request, Response

from prunelake.errors import NoSnapshot
from prunelake.lake.attempt_log import Attempt

from ..http.openmetrics import EOF_LINE, MEDIA_TYPE, MetricFamily, render
from ..http.problems import ERROR_RESPONSES
from ..http.request_counters import RequestCounters
from ..queries import runs
from ..queries.operations import Operations, OperationsState
from ..queries.snapshots.snapshot import LatestSnapshot, Snapshot

router = APIRouter(responses=ERROR_RESPONSES, tags=["server"])


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Metrics of lake and server",
    response_class=Response,
    responses={200: {"description": "OpenMetrics text.", "content": {MEDIA_TYPE: {}}}},
)
def metrics(request: Request) -> Response:
    """Runs, examples, tokens, degradations, the snapshot's age, requests, queries, and operations.

    Numbers about runs come from the published snapshot, and are absent before the first snapshot.
    Numbers about operations come from the lake itself; those of a lake in an object store are up to
    15 seconds old, and absent while the store does not answer. The answer is never cached.
    """
    snapshots: LatestSnapshot = request.app.state.snapshots
    counts: RequestCounters = request.app.state.counts
    operations: Operations = request.app.state.operations
    families: list[MetricFamily] = []
    with suppress(NoSnapshot):  # monitors also watch a server without a snapshot
        families += snapshot_families(snapshots.current())
    families += counts.metric_families()
    if (state := operations.state()) is not None:
        families += operations_families(state)
    body = render(families) + EOF_LINE
    return Response(body, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


def snapshot_families(snapshot: Snapshot) -> Iterable[MetricFamily]:
    """The contents of the snapshot, by model and task."""
    snapshot_info = MetricFamily(
        "prunelake_snapshot", "info", "The published snapshot that is served."
    )
    snapshot_info.add(1, id=snapshot.id)
    age = MetricFamily(
        "prunelake_snapshot_age_seconds", "gauge", "Seconds since the snapshot was published."
    )
    age.add(_age(snapshot.created_at))
    totals = {
        "runs": MetricFamily("prunelake_runs", "gauge", "Complete runs."),
        "examples": MetricFamily(
            "prunelake_examples", "gauge", "Examples, counted once for each run."
        ),
        "forward_tokens": MetricFamily(
            "prunelake_forward_tokens", "gauge", "Tokens that runs passed through whole models."
        ),
        "unanalysed": MetricFamily(
            "prunelake_analyses_missing", "gauge", "Runs without an analysis."
        ),
        "hidden_degradations": MetricFamily(
            "prunelake_hidden_degradations",
            "gauge",
            "Hidden degradations: a metric is worse while accuracy is stable.",
        ),
    }
    for row in snapshot.rows(runs.totals_by_task()).iter_rows(named=True):
        for name, family in totals.items():
            family.add(row[name], model=row["model"], task=row["task"])
    damaged = MetricFamily(
        "prunelake_damaged_files", "gauge", "Damaged files, and runs that each hides."
    )
    damaged.add(snapshot.rows(runs.damaged_files()).height)
    return [snapshot_info, age, *totals.values(), damaged]


def operations_families(state: OperationsState) -> Iterable[MetricFamily]:
    """The evaluations of `watch`, its last round, the last check, and unfinished runs.

    If an attempt is damaged, there are no families of evaluations: monitors still see the server,
    and the log names the file.
    """
    if state.attempts is not None:
        yield from evaluation_families(state.attempts)
    texts = {
        "watch": ("prunelake_watch_round", "Evaluations that failed in the last round of watch."),
        "doctor": ("prunelake_doctor", "Damaged files that the last run of doctor found."),
    }
    for name, status in state.statuses.items():
        prefix, problems_help = texts[name]
        age = MetricFamily(f"{prefix}_age_seconds", "gauge", f"Seconds since {name} ended.")
        age.add(_age(status.ended_at))
        problems = MetricFamily(f"{prefix}_problems", "gauge", problems_help)
        problems.add(status.problem_count)
        yield from (age, problems)
    runs_left = MetricFamily("prunelake_unfinished_runs", "gauge", "Runs with some finished work.")
    runs_left.add(state.unfinished_runs)
    shards = MetricFamily(
        "prunelake_unfinished_shards", "gauge", "Finished shards of runs that are not complete."
    )
    shards.add(state.unfinished_shards)
    yield from (runs_left, shards)


def evaluation_families(attempts: Sequence[Attempt]) -> Iterable[MetricFamily]:
    """The evaluations of `prunelake watch` in flight, and those that failed at the last attempt.

    A parked evaluation is not retried.
    """
    failed = [attempt for attempt in attempts if attempt.state == "failed"]
    started = [attempt.started_at for attempt in attempts if attempt.state == "running"]
    in_flight = MetricFamily(
        "prunelake_evaluations_in_flight", "gauge", "Evaluations that have not ended."
    )
    in_flight.add(len(started))
    oldest = MetricFamily(
        "prunelake_evaluation_in_flight_age_seconds", "gauge", "The age of the oldest evaluation."
    )
    oldest.add(max((_age(moment) for moment in started), default=0.0))
    failing = MetricFamily(
        "prunelake_evaluations_failing", "gauge", "Evaluations whose last attempt failed."
    )
    tries = MetricFamily(
        "prunelake_evaluation_attempts", "gauge", "Attempts at failing evaluations."
    )
    for is_parked in (False, True):
        numbers = [attempt.number for attempt in failed if (attempt.retry_at is None) is is_parked]
        failing.add(len(numbers), parked=str(is_parked).lower())
        tries.add(sum(numbers), parked=str(is_parked).lower())
    return [in_flight, oldest, failing, tries]


def _age(moment: datetime) -> float:
    return max(0.0, time.time() - moment.timestamp())
