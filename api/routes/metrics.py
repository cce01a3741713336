"""GET /metrics: the state of the lake and of the server for monitors, in the OpenMetrics format."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter, Request, Response

from prunelake.errors import CorruptFile, NoSnapshot
from prunelake.lake.attempt_log import read_attempts

from ..http.openmetrics import EOF_LINE, MEDIA_TYPE, MetricFamily, render
from ..http.problems import ERROR_RESPONSES
from ..http.request_counters import RequestCounters
from ..queries import runs
from ..queries.snapshot import LatestSnapshot, Snapshot

log = logging.getLogger(__name__)

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
    """Runs, examples, tokens, degradations, the snapshot's age, requests, queries, and failures.

    Numbers about the lake come from its published snapshot, and are absent before the first
    snapshot. The answer is never cached.
    """
    snapshots: LatestSnapshot = request.app.state.snapshots
    counts: RequestCounters = request.app.state.counts
    families: list[MetricFamily] = []
    with suppress(NoSnapshot):  # monitors also watch a server without a snapshot
        families += snapshot_families(snapshots.current())
    families += [*counts.metric_families(), *watch_families(snapshots.path.parent)]
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
    age.add(max(0.0, time.time() - snapshot.created_at.timestamp()))
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
            "Verdicts: a metric is worse where accuracy is stable.",
        ),
    }
    for row in snapshot.rows(runs.totals_by_task()).iter_rows(named=True):
        for name, family in totals.items():
            family.add(row[name], model=row["model"], task=row["task"])
    return [snapshot_info, age, *totals.values()]


def watch_families(lake: Path) -> Iterable[MetricFamily]:
    """How many evaluations of `prunelake watch` failed at the last attempt, and their attempts.

    A parked evaluation is not retried. If an attempt cannot be read, there are no families:
    monitors still see the server, and the log names the damaged file.
    """
    try:
        failed = [attempt for attempt in read_attempts(lake).values() if attempt.state == "failed"]
    except CorruptFile as error:
        log.warning("%s", error)
        return []
    failing = MetricFamily(
        "prunelake_evaluations_failing", "gauge", "Evaluations whose last attempt failed."
    )
    tries = MetricFamily("prunelake_evaluation_attempts", "gauge", "The number of their attempts.")
    for is_parked in (False, True):
        numbers = [attempt.number for attempt in failed if (attempt.retry_at is None) is is_parked]
        failing.add(len(numbers), parked=str(is_parked).lower())
        tries.add(sum(numbers), parked=str(is_parked).lower())
    return [failing, tries]
