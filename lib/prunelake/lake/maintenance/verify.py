"""Verify a lake: find damage, leftovers and missing analyses, and change nothing."""

import json
from collections.abc import Iterator
from datetime import timedelta

from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import Finding, FindingKind, finding_of
from prunelake.lake.files.paths import ATTEMPTS_FOLDER, LOCK_SUFFIX, SHARDS_FOLDER
from prunelake.lake.maintenance.garbage import unlisted_files
from prunelake.lake.maintenance.lost_runs import find_lost_runs
from prunelake.lake.read import require_lake, run_ids, unanalysed_run_ids
from prunelake.lake.storage.location import (
    TEMPORARY_SUFFIX,
    Location,
    list_folder,
    storage_clock,
    written_at,
)
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_TABLES
from prunelake.schema.tables import TABLE_GROUPS

SHARDS_ABANDONED_AFTER = timedelta(days=7)
"""Shards are left over if no sweep has touched them for this long."""

TEMPORARY_STALE_AFTER = timedelta(hours=1)
"""An older temporary file of the watcher belongs to a dead watcher: the watcher holds no lock."""

REPAIR = "run `prunelake doctor --repair`"


def verify_lake(lake: Location) -> list[Finding]:
    """Check every file of every complete run, analysis and profile, and find leftovers.

    Raises:
        LakeError: no such folder.
        WrongFormat: an undamaged manifest of another format version.
    """
    require_lake(lake)
    damage = list(find_damage(lake))
    findings = [*map(finding_of, damage), *find_leftovers(lake)]
    damaged = frozenset[str]().union(
        *(each.owners for each in damage if each.group is ANALYSIS_TABLES)
    )
    for run_id in sorted(set(unanalysed_run_ids(lake)) - damaged):
        problem, remedy = f"run {run_id} has no analysis of this version", "run `prunelake analyse`"
        missing = Finding(lake / ANALYSES.name, problem, remedy, FindingKind.unanalysed, run_id)
        findings.append(missing)
    return findings


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
    by_run: dict[str, list[Location]] = {}  # the folder with the shards, and their lock
    for path in list_folder(lake / SHARDS_FOLDER):
        by_run.setdefault(path.name.removesuffix(LOCK_SUFFIX), []).append(path)
    if not by_run:
        return
    complete, now = set(run_ids(lake)), storage_clock(lake)
    for run_id, paths in by_run.items():
        unused = min(_time_since_write(path, now) for path in paths)
        remedy = f"{REPAIR}, unless a sweep of it is running now"
        problem = "leftover: shards of a complete run"
        if run_id not in complete:
            remedy = f"sweep again to finish it, or {remedy}"
            problem = f"leftover: shards of no complete run, untouched for {unused.days} days"
        if run_id in complete or unused > SHARDS_ABANDONED_AFTER:
            for path in paths:
                yield Finding(path, problem, remedy, FindingKind.disposable)


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
