"""Find leftovers: files that belong to no complete run, analysis or profile."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from prunelake.lake.files.findings import Finding, FindingKind
from prunelake.lake.files.manifests import manifest_files, manifests
from prunelake.lake.files.paths import ATTEMPTS_FOLDER, SHARDS_FOLDER, is_segment, owner_id
from prunelake.lake.read import analysed_run_ids, run_ids
from prunelake.lake.storage.location import Location, list_folder
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import TableGroup
from prunelake.schema.tables import TABLE_GROUPS

SHARDS_ABANDONED_AFTER = timedelta(days=7)
"""Shards are left over if no sweep has touched them for this long."""

TEMPORARY_STALE_AFTER = timedelta(hours=1)
"""An older temporary file of the watcher belongs to a dead watcher: the watcher holds no lock."""

REPAIR = "run `prunelake doctor --repair`"


def find_leftovers(lake: Location) -> Iterator[Finding]:
    """The files that belong to no complete run, analysis or profile, and to no sweep in progress.

    They include the files that a writer is writing now.

    Raises:
        WrongFormat, CorruptFile: as `read.analysed_run_ids`.
    """
    yield from _table_leftovers(lake)
    yield from _shard_leftovers(lake)
    yield from _attempt_leftovers(lake)


def _table_leftovers(lake: Location) -> Iterator[Finding]:
    runs, analysed = set(run_ids(lake)), analysed_run_ids(lake)
    for group in TABLE_GROUPS:
        paths = [path for name in sorted(group) for path in list_folder(lake / name)]
        committed = {owner_id(path) for paths in manifest_files(lake, group) for path in paths}
        listed = _listed_objects(lake, group) if isinstance(lake, ObjectPath) else set()
        complete = committed if group is PROFILE_TABLES else runs
        kind = group.manifest_table.owner_kind
        for path in paths:
            owner = owner_id(path)
            remedy, finding_kind = "delete it, unless a sweep is writing now", FindingKind.orphaned
            if path.name.startswith("."):
                problem, finding_kind = "leftover: a temporary file", FindingKind.disposable
            elif is_segment(path) and owner not in committed:
                problem, remedy = "leftover: belongs to no segment", "run `prunelake compact`"
            elif path.suffix != ".parquet" or not (is_segment(path) or owner in complete):
                problem = f"leftover: belongs to no complete {kind}"
            elif owner not in committed:
                problem = f"leftover: its run has no {group.manifest_table.name} file of its own"
                is_merged = group is RUN_TABLES or owner in analysed
                remedy = f"run `prunelake {'compact' if is_merged else 'analyse'}`"
            elif isinstance(path, ObjectPath) and path not in listed:
                problem = f"leftover: its {kind} lists another file instead"
            else:
                continue
            yield Finding(path, problem, remedy, finding_kind)


def _listed_objects(lake: Location, group: TableGroup) -> set[Location]:
    """The manifests of a group and all files that they list."""
    listed: set[Location] = set()
    for manifest in manifests(lake, group):
        listed.add(manifest.path)
        listed.update(file.path(manifest.path) for file in manifest.files.values())
    return listed


def _shard_leftovers(lake: Location) -> Iterator[Finding]:
    complete = set(run_ids(lake))
    remedy = f"{REPAIR}, unless a sweep of it is running now"
    for folder in list_folder(lake / SHARDS_FOLDER):
        unused = _time_since_write(folder)
        if folder.name in complete:
            problem = "leftover: shards of a complete run"
            yield Finding(folder, problem, remedy, FindingKind.disposable)
        elif unused > SHARDS_ABANDONED_AFTER:
            problem = f"leftover: shards of no complete run, untouched for {unused.days} days"
            sweep_or_repair = f"sweep again to finish it, or {remedy}"
            yield Finding(folder, problem, sweep_or_repair, FindingKind.orphaned)


def _attempt_leftovers(lake: Location) -> Iterator[Finding]:
    for path in list_folder(lake / ATTEMPTS_FOLDER):
        if path.suffix == ".tmp":
            if _time_since_write(path) > TEMPORARY_STALE_AFTER:
                problem = "leftover: a temporary file of the watcher"
                yield Finding(path, problem, REPAIR, FindingKind.disposable)
        elif path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError:
                problem = "leftover: an attempt of the watcher that is not JSON"
                remedy = f"{REPAIR}: the watcher then tries this evaluation again"
                yield Finding(path, problem, remedy, FindingKind.orphaned)
            except FileNotFoundError:
                pass  # the evaluation succeeded meanwhile


def _time_since_write(path: Location) -> timedelta:
    """The time since a file, or the newest file in a folder, was written."""
    times = []
    if isinstance(path, ObjectPath):
        members: Iterable[Location] = path.iter_objects() if path.status is None else [path]
    else:
        members = (path, *path.rglob("*"))
    for member in members:
        try:
            times.append(member.stat().st_mtime)
        except FileNotFoundError:
            return timedelta(0)  # another process is at work there
    if not times:
        return timedelta(0)
    return datetime.now(UTC) - datetime.fromtimestamp(max(times), UTC)
