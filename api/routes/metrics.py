"""What a monitor reads: the state of the lake and of the server, in the OpenMetrics format."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter, Request, Response

from prunelake.errors import NoSnapshot
from prunelake.lake.verify import ATTEMPTS_FOLDER

from ..http.openmetrics import EOF_LINE, MEDIA_TYPE, MetricFamily, render
from ..http.problems import ERROR_RESPONSES
from ..http.request_counters import RequestCounters
from ..queries import runs
from ..queries.snapshot import LatestSnapshot, Snapshot

router = APIRouter(responses=ERROR_RESPONSES, tags=["server"])


@router.head("/metrics", include_in_schema=False)
@router.get(
    "/metrics",
    summary="Metrics of lake and server",
    response_class=Response,
    responses={200: {"description": "OpenMetrics text.", "content": {MEDIA_TYPE: {}}}},
)
def metrics(request: Request) -> Response:
    """Runs, examples, tokens, degradations, the snapshot's age, requests, queries, and failures.

    What is of the lake is of its published snapshot; before the first one it is left out. It is
    never cached.
    """
    snapshots: LatestSnapshot = request.app.state.snapshots
    counts: RequestCounters = request.app.state.counts
    families: list[MetricFamily] = []
    with suppress(NoSnapshot):  # a server without one is to be seen, too
        families += snapshot_families(snapshots.current())
    families += [
        *counts.metric_families(),
        *watch_families(snapshots.path.parent / ATTEMPTS_FOLDER),
    ]
    body = render(families) + EOF_LINE
    return Response(body, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


def snapshot_families(snapshot: Snapshot) -> Iterable[MetricFamily]:
    """What the snapshot holds, by model and task."""
    about = MetricFamily("prunelake_snapshot", "info", "The published snapshot that is served.")
    about.add(1, id=snapshot.id)
    age = MetricFamily(
        "prunelake_snapshot_age_seconds", "gauge", "Since the snapshot was published."
    )
    age.add(max(0.0, time.time() - snapshot.created_at.timestamp()))
    told = {
        "runs": MetricFamily("prunelake_runs", "gauge", "Complete runs."),
        "examples": MetricFamily("prunelake_examples", "gauge", "Examples, each run counted."),
        "forward_tokens": MetricFamily(
            "prunelake_forward_tokens", "gauge", "Tokens through whole models that runs have cost."
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
        for name, family in told.items():
            family.add(row[name], model=row["model"], task=row["task"])
    return [about, age, *told.values()]


def watch_families(folder: Path) -> Iterable[MetricFamily]:
    """Evaluations that failed, as the watcher remembers them; a memory that is none is left out."""
    failing = MetricFamily(
        "prunelake_evaluations_failing", "gauge", "Evaluations that failed last."
    )
    attempts = MetricFamily("prunelake_evaluation_attempts", "gauge", "How often they were tried.")
    found = {False: [0, 0], True: [0, 0]}
    for path in folder.glob("*.json"):
        try:
            memory = json.loads(path.read_bytes())
            if memory.get("state", "failed") != "failed":
                continue
            tried = int(memory.get("attempts", memory.get("number", 1)))
            # Who is parked is not tried again.
            is_parked = bool(memory.get("parked", memory.get("retry_at", "") is None))
        except (OSError, ValueError, TypeError, AttributeError):
            continue
        found[is_parked][0] += 1
        found[is_parked][1] += tried
    for is_parked, (count, tried) in found.items():
        failing.add(count, parked=str(is_parked).lower())
        attempts.add(tried, parked=str(is_parked).lower())
    return [failing, attempts]
