"""GET /metrics: the state of the lake and of the server for monitors, in the OpenMetrics format."""

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from fastapi import APIRouter, Request, Response

from prunelake.errors import CorruptFile, NoSnapshot
from prunelake.lake.attempt_log import read_attempts
from prunelake.lake.files.paths import SHARDS_FOLDER
from prunelake.watch.status import read_status

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
    """Runs, examples, tokens, degradations, the snapshot's age, requests, queries, and operations.

    Numbers about the lake come from its published snapshot, and are absent before the first
    snapshot. The answer is never cached.
    """
    snapshots: LatestSnapshot = request.app.state.snapshots
    counts: RequestCounters = request.app.state.counts
    families: list[MetricFamily] = []
    with suppress(NoSnapshot):  # monitors also watch a server without a snapshot
        families += snapshot_families(snapshots.current())
    families += [*counts.metric_families(), *watch_families(snapshots.path.parent)]
    families += status_families(snapshots.path.parent)
    families += partial_run_families(snapshots.path.parent)
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
            "Verdicts: a metric is worse where accuracy is stable.",
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


def watch_families(lake: Path) -> Iterable[MetricFamily]:
    """The evaluations of `prunelake watch` in flight, and those that failed at the last attempt.

    A parked evaluation is not retried. If an attempt cannot be read, there are no families:
    monitors still see the server, and the log names the damaged file.
    """
    try:
        attempts = read_attempts(lake).values()
    except CorruptFile as error:
        log.warning("%s", error)
        return []
    failed = [attempt for attempt in attempts if attempt.state == "failed"]
    started = [attempt.started_at for attempt in attempts if attempt.state == "running"]
    in_flight = MetricFamily(
        "prunelake_evaluations_in_flight", "gauge", "Evaluations that were started and have no end."
    )
    in_flight.add(len(started))
    oldest = MetricFamily(
        "prunelake_evaluation_in_flight_age_seconds", "gauge", "The age of the oldest of them."
    )
    oldest.add(max((_age(moment) for moment in started), default=0.0))
    failing = MetricFamily(
        "prunelake_evaluations_failing", "gauge", "Evaluations whose last attempt failed."
    )
    tries = MetricFamily("prunelake_evaluation_attempts", "gauge", "The number of their attempts.")
    for is_parked in (False, True):
        numbers = [attempt.number for attempt in failed if (attempt.retry_at is None) is is_parked]
        failing.add(len(numbers), parked=str(is_parked).lower())
        tries.add(sum(numbers), parked=str(is_parked).lower())
    return [in_flight, oldest, failing, tries]


def status_families(lake: Path) -> Iterable[MetricFamily]:
    """The ages and the results of the last round of `watch` and the last run of `doctor`."""
    texts = {
        "watch": ("prunelake_watch_round", "Evaluations that failed in the last round of watch."),
        "doctor": ("prunelake_doctor", "Damaged files that the last run of doctor found."),
    }
    for name, (prefix, problems_help) in texts.items():
        status = read_status(lake, name)
        if status is None:
            continue
        age = MetricFamily(f"{prefix}_age_seconds", "gauge", f"Seconds since {name} ended.")
        age.add(_age(status.ended_at))
        problems = MetricFamily(f"{prefix}_problems", "gauge", problems_help)
        problems.add(status.problem_count)
        yield from (age, problems)


def partial_run_families(lake: Path) -> Iterable[MetricFamily]:
    """The runs that are not complete, and their finished shards."""
    folders = [folder for folder in (lake / SHARDS_FOLDER).glob("*") if folder.is_dir()]
    runs_left = MetricFamily("prunelake_unfinished_runs", "gauge", "Runs with some finished work.")
    runs_left.add(len(folders))
    shards = MetricFamily(
        "prunelake_unfinished_shards", "gauge", "Finished shards of runs that are not complete."
    )
    shards.add(sum(len(list(folder.glob("[!.]*.json"))) for folder in folders))
    return [runs_left, shards]


def _age(moment: datetime) -> float:
    return max(0.0, time.time() - moment.timestamp())
