"""Find leftovers: lost runs, and files that belong to no complete run, analysis or profile."""

import json
from collections.abc import Iterator
from datetime import timedelta

from prunelake.lake.files.findings import Finding, FindingKind
from prunelake.lake.files.paths import ATTEMPTS_FOLDER, SHARDS_FOLDER
from prunelake.lake.maintenance.garbage import unlisted_files
from prunelake.lake.maintenance.lost_runs import find_lost_runs
from prunelake.lake.read import run_ids
from prunelake.lake.storage.location import (
    TEMPORARY_SUFFIX,
    Location,
    list_folder,
    storage_clock,
    written_at,
)
from prunelake.schema.tables import TABLE_GROUPS

SHARDS_ABANDONED_AFTER = timedelta(days=7)
"""Shards are left over if no sweep has touched them for this long."""

TEMPORARY_STALE_AFTER = timedelta(hours=1)
"""An older temporary file of the watcher belongs to a dead watcher: the watcher holds no lock."""

REPAIR = "run `prunelake doctor --repair`"


def find_leftovers(lake: Location) -> Iterator[Finding]:
    """The lost runs, and the files that belong to no complete run and to no sweep in progress.

    They include the files that a writer is writing now.

    Raises:
        WrongFormat: as `read.run_ids`.
    """
    lost = list(find_lost_runs(lake))
    for run in lost:
        for run_id, model, task in run.rows.select("run_id", "model", "task").iter_rows():
            problem = f"run {run_id} ({model}, {task}) has lost its manifest"
            remedy = f"{REPAIR} to restore it"
            yield Finding(run.file, problem, remedy, FindingKind.lost, run_id)
    names = tuple(f"{run.name.entry}.{run.name.generation}." for run in lost)
    for group in TABLE_GROUPS:
        for path in unlisted_files(lake, group, with_retired=False):
            if not path.name.startswith(names):
                kind = group.owner_table.owner_kind
                problem = f"leftover: belongs to no complete {kind}"
                if path.name.endswith(TEMPORARY_SUFFIX):
                    problem = "leftover: a temporary file"
                remedy = "`prunelake gc` deletes it after a grace period"
                yield Finding(path, problem, remedy, FindingKind.orphaned)
    yield from _shard_leftovers(lake)
    yield from _attempt_leftovers(lake)


def _shard_leftovers(lake: Location) -> Iterator[Finding]:
    folders = [path for path in list_folder(lake / SHARDS_FOLDER) if path.suffix != ".lock"]
    if not folders:
        return
    complete, now = set(run_ids(lake)), storage_clock(lake)
    remedy = f"{REPAIR}, unless a sweep of it is running now"
    for folder in folders:
        unused = _time_since_write(folder, now)
        if folder.name in complete:
            problem = "leftover: shards of a complete run"
            yield Finding(folder, problem, remedy, FindingKind.disposable)
        elif unused > SHARDS_ABANDONED_AFTER:
            problem = f"leftover: shards of no complete run, untouched for {unused.days} days"
            sweep_or_repair = f"sweep again to finish it, or {remedy}"
            yield Finding(folder, problem, sweep_or_repair, FindingKind.disposable)


def _attempt_leftovers(lake: Location) -> Iterator[Finding]:
    for path in list_folder(lake / ATTEMPTS_FOLDER):
        if path.suffix == TEMPORARY_SUFFIX:
            if _time_since_write(path, storage_clock(lake)) > TEMPORARY_STALE_AFTER:
                problem = "leftover: a temporary file of the watcher"
                yield Finding(path, problem, REPAIR, FindingKind.disposable)
        elif path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError:
                problem = "leftover: an attempt of the watcher that is not JSON"
                remedy = f"{REPAIR}: the watcher then tries this evaluation again"
                yield Finding(path, problem, remedy, FindingKind.disposable)
            except FileNotFoundError:
                pass  # the evaluation succeeded meanwhile


def _time_since_write(path: Location, now: float) -> timedelta:
    """The time since a file, or the newest file in a folder, was written."""
    try:
        return timedelta(seconds=now - written_at(path))
    except FileNotFoundError:
        return timedelta(0)  # another process is at work there
