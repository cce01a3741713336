"""What a monitor reads: the state of the lake and of the server, in the OpenMetrics format."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fastapi import APIRouter, Request, Response

from api import queries
from api.measuring import Counts
from api.openmetrics import END, MEDIA_TYPE, Family, written
from api.problems import RESPONSES
from api.snapshot import Snapshot, Snapshots
from prunelake.errors import NoSnapshot
from prunelake.lake.verify import WATCH

router = APIRouter(responses=RESPONSES, tags=["server"])


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
    snapshots: Snapshots = request.app.state.snapshots
    counts: Counts = request.app.state.counts
    families: list[Family] = []
    with suppress(NoSnapshot):  # a server without one is to be seen, too
        families += of_snapshot(snapshots.current())
    families += [*counts.families(), *of_watch(snapshots.path.parent / WATCH)]
    body = written(families) + END
    return Response(body, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


def of_snapshot(snapshot: Snapshot) -> Iterable[Family]:
    """What the snapshot holds, by model and task."""
    about = Family("prunelake_snapshot", "info", "The published snapshot that is served.")
    about.add(1, id=snapshot.id)
    age = Family("prunelake_snapshot_age_seconds", "gauge", "Since the snapshot was published.")
    age.add(max(0.0, time.time() - snapshot.created_at.timestamp()))
    told = {
        "runs": Family("prunelake_runs", "gauge", "Complete runs."),
        "examples": Family("prunelake_examples", "gauge", "Examples, each run counted."),
        "forward_tokens": Family(
            "prunelake_forward_tokens", "gauge", "Tokens through whole models that runs have cost."
        ),
        "unanalysed": Family("prunelake_analyses_missing", "gauge", "Runs without an analysis."),
        "hidden_degradations": Family(
            "prunelake_hidden_degradations",
            "gauge",
            "Verdicts: a metric is worse where accuracy is stable.",
        ),
    }
    for row in snapshot.rows(queries.totals()).iter_rows(named=True):
        for name, family in told.items():
            family.add(row[name], model=row["model"], task=row["task"])
    return [about, age, *told.values()]


def of_watch(folder: Path) -> Iterable[Family]:
    """Evaluations that failed, as the watcher remembers them; a memory that is none is left out."""
    failing = Family("prunelake_evaluations_failing", "gauge", "Evaluations that failed last.")
    attempts = Family("prunelake_evaluation_attempts", "gauge", "How often they were tried.")
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
