"""Whether every file of a lake is as it was written; finds what is wrong and changes nothing."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import polars as pl

from prunelake.errors import LakeError, WrongFormat, one_line
from prunelake.lake import parquet
from prunelake.lake.manifests import (
    ANALYSIS_GROUP,
    PROFILE_GROUP,
    RUN_GROUP,
    TABLE_GROUPS,
    TableGroup,
    is_segment,
    listed_path,
    manifest_files,
    manifests,
    segment_files,
    segment_name,
)
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import analysed_run_ids, require_lake, run_ids, unanalysed_run_ids
from prunelake.lake.storage import Location, list_folder, prefetch
from prunelake.schema.analysis_tables import ANALYSES
from prunelake.schema.table import FORMAT_VERSION, Table
from prunelake.spec import content_hash

SHARDS_FOLDER = ".shards"
"""Folder of what sweeps have computed of runs that are not complete yet, one folder a run."""

ATTEMPTS_FOLDER = ".watch"
"""Folder of what the watcher remembers, one JSON file each."""

SHARDS_ABANDONED_AFTER = timedelta(days=7)
"""Shards that no sweep has touched for so long are called left over."""

CHECK_THREADS = 8
"""Runs that are checked at once where each file is a request."""

TEMPORARY_STALE_AFTER = timedelta(hours=1)
"""So old a temporary file of the watcher, which takes no lock of the lake, is of a dead one."""


class FindingKind(Enum):
    """What may be done about a finding."""

    damaged = "not what was written: it and what rests on it can be moved aside"
    foreign = "of another format version: it can be migrated, or read by another PruneLake"
    unanalysed = "a run without analysis: it can be computed"
    orphaned = "belongs to no complete run: it can be moved aside"
    disposable = "holds nothing that anyone needs: it can be deleted"


@dataclass(frozen=True)
class Finding:
    """Something wrong with one file or folder of a lake, and what would put it right."""

    file: Location
    problem: str
    remedy: str
    kind: FindingKind = FindingKind.damaged


def verify_lake(lake: Location) -> list[Finding]:
    """Check every file of every complete run, analysis and profile; name what belongs to none.

    Raises:
        LakeError: no such folder.
    """
    require_lake(lake)
    damaged = list(find_damage(lake))
    try:
        return [*damaged, *find_orphans(lake), *_missing_analyses(lake)]
    except LakeError:
        # Which runs there are is unknown while a head file does not open: that is found above.
        return damaged


def find_damage(lake: Location) -> Iterator[Finding]:
    """What is wrong with the files of runs, analyses and profiles: hash, schema, rows, keys, id."""
    for group in TABLE_GROUPS:
        for paths in manifest_files(lake, group):
            for head, findings in _checked_manifests(group, paths):
                # Otherwise a compaction has taken it meanwhile.
                if findings and head.is_file():
                    yield from findings


def _checked_manifests(
    group: TableGroup, paths: Sequence[Location]
) -> Iterator[tuple[Location, list[Finding]]]:
    """Each head, and what is wrong with the files that it commits."""
    if not any(isinstance(path, ObjectPath) for path in paths):
        for head in paths:
            yield head, list(_manifest_findings(group, head))
        return
    pool = ThreadPoolExecutor(CHECK_THREADS)
    try:
        yield from pool.map(lambda head: (head, list(_manifest_findings(group, head))), paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _missing_analyses(lake: Location) -> Iterator[Finding]:
    for run_id in unanalysed_run_ids(lake):
        path = lake / ANALYSES.name / f"{run_id}.parquet"
        problem = "missing, or of another version"
        yield Finding(path, problem, "run `prunelake analyse`", FindingKind.unanalysed)


def find_orphans(lake: Location) -> Iterator[Finding]:
    """What belongs to no complete run or analysis, and to no sweep that may still go on.

    While a writer is at work, what it is writing is among them.

    Raises:
        WrongFormat, CorruptFile: as `read.analysed_run_ids`.
    """
    yield from _orphan_table_files(lake)
    yield from _orphan_shards(lake)
    yield from _orphan_attempts(lake)


def _orphan_table_files(lake: Location) -> Iterator[Finding]:
    runs, with_analysis = set(run_ids(lake)), analysed_run_ids(lake)
    for group in TABLE_GROUPS:
        committed = {
            parquet.owner_id(path) for paths in manifest_files(lake, group) for path in paths
        }
        listed = _committed_files(lake, group) if isinstance(lake, ObjectPath) else set()
        owners, what = (committed, "profile") if group is PROFILE_GROUP else (runs, "run")
        for path in [p for name in sorted(group.tables) for p in list_folder(lake / name)]:
            remedy, kind = "delete it, unless a sweep is writing now", FindingKind.orphaned
            if path.name.startswith("."):
                problem, kind = "leftover: a temporary file", FindingKind.disposable
            elif is_segment(path) and parquet.owner_id(path) not in committed:
                problem, remedy = "leftover: belongs to no segment", "run `prunelake compact`"
            elif path.suffix != ".parquet" or not (
                is_segment(path) or parquet.owner_id(path) in owners
            ):
                problem = f"leftover: belongs to no complete {what}"
            elif parquet.owner_id(path) not in committed:
                problem = f"leftover: its run has no {group.manifest_table.name} file of its own"
                is_merged = group is RUN_GROUP or parquet.owner_id(path) in with_analysis
                remedy = f"run `prunelake {'compact' if is_merged else 'analyse'}`"
            elif isinstance(path, ObjectPath) and path not in listed:
                problem = f"leftover: its {what} lists another file in its place"
            else:
                continue
            yield Finding(path, problem, remedy, kind)


def _committed_files(lake: Location, group: TableGroup) -> set[Location]:
    """The files that head files commit, and these."""
    return {
        file
        for part in manifests(lake, group)
        for name in (group.manifest_table.name, *part.files)
        if (file := part.file(name)) is not None
    }


def _orphan_shards(lake: Location) -> Iterator[Finding]:
    complete = set(run_ids(lake))
    for folder in list_folder(lake / SHARDS_FOLDER):
        remedy = "run `prunelake doctor --repair`, unless a sweep of it is running now"
        unused = _time_since_write(folder)
        if folder.name in complete:
            yield Finding(
                folder, "leftover: shards of a complete run", remedy, FindingKind.disposable
            )
        elif unused > SHARDS_ABANDONED_AFTER:
            problem = f"leftover: shards of no complete run, untouched for {unused.days} days"
            yield Finding(
                folder, problem, f"sweep again to finish it, or {remedy}", FindingKind.orphaned
            )


def _orphan_attempts(lake: Location) -> Iterator[Finding]:
    for path in list_folder(lake / ATTEMPTS_FOLDER):
        if path.suffix == ".tmp":
            if _time_since_write(path) > TEMPORARY_STALE_AFTER:
                problem = "leftover: a temporary file of the watcher"
                yield Finding(
                    path, problem, "run `prunelake doctor --repair`", FindingKind.disposable
                )
        elif path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError:
                remedy = "run `prunelake doctor --repair`: the watcher then begins anew"
                problem = "leftover: a memory of the watcher that is no JSON"
                yield Finding(path, problem, remedy, FindingKind.orphaned)
            except FileNotFoundError:
                pass  # what was failing has succeeded meanwhile


def _time_since_write(path: Location) -> timedelta:
    """How long ago a file, or the last one in a folder, was written."""
    times = []
    if isinstance(path, ObjectPath):
        each: Iterable[Location] = path.iter_objects() if path.status is None else [path]
    else:
        each = (path, *path.rglob("*"))
    for one in each:
        try:
            times.append(one.stat().st_mtime)
        except FileNotFoundError:
            return timedelta(0)  # someone is at work there
    if not times:
        return timedelta(0)
    return datetime.now(UTC) - datetime.fromtimestamp(max(times), UTC)


def _manifest_findings(group: TableGroup, head: Location) -> Iterator[Finding]:
    remedy = parquet.repair_hint(head)
    try:
        whole = prefetch(head)
        problem = parquet.checksum_problem(whole)
        if problem:
            yield Finding(head, problem, remedy)
            return
        says = parquet.checked_metadata(whole)
        rows = parquet.read(whole, group.manifest_table)
    except WrongFormat:
        problem = f"another format than {FORMAT_VERSION}, which this version reads"
        yield Finding(head, problem, parquet.format_hint(head), FindingKind.foreign)
        return
    except LakeError as error:
        yield Finding(head, str(error), remedy)
        return
    owner = group.manifest_table.owner_column
    owners = rows[owner].drop_nulls().to_list() if is_segment(head) else [parquet.owner_id(head)]
    for problem in (
        *_manifest_problems(head, rows),
        *parquet.content_problems(rows, group.manifest_table, owners),
        *(_identity_problems(rows) if group is RUN_GROUP else ()),
    ):
        yield Finding(head, problem, remedy)
    of_owners = rows.select(owner, "files").explode("files").unnest("files")
    listed = (segment_files(says) or []) if is_segment(head) else of_owners.to_dicts()
    by_table = {entry["table"]: entry for entry in listed}
    for name, table in group.tables.items():
        if table is group.manifest_table or (table.is_optional and name not in by_table):
            continue
        entry = by_table.get(name)
        path = head.parent.parent / name / head.name if entry is None else listed_path(head, entry)
        counts = of_owners.filter(pl.col("table") == name).select(owner, "rows")
        if name not in by_table and group is ANALYSIS_GROUP:
            problem = "its analysis is of before this table"
            yield Finding(path, problem, "run `prunelake doctor --migrate`", FindingKind.foreign)
            continue
        for problem in _table_problems(path, table, counts, entry):
            yield Finding(path, problem, remedy)


def _manifest_problems(head: Location, rows: pl.DataFrame) -> Iterator[str]:
    if not is_segment(head) and rows.height != 1:
        yield f"{rows.height} rows instead of one"
    if is_segment(head) and segment_name(rows) != parquet.owner_id(head):
        yield f"its rows hash to {segment_name(rows)}"


def _identity_problems(runs: pl.DataFrame) -> Iterator[str]:
    for run_id, identity in runs.select("run_id", "identity").iter_rows():
        try:
            found = content_hash(json.loads(identity or ""))[:16]
        except ValueError:
            yield "its identity is not JSON"
        else:
            if found != run_id:
                yield f"its identity hashes to {found}, not to {run_id}"


def _table_problems(
    path: Location, table: Table, counts: pl.DataFrame, listed: Mapping[str, Any] | None
) -> Iterator[str]:
    """What is wrong with a file, which should have `counts` rows of each run."""
    if listed is None:
        yield "its run does not list it"
        return
    path = prefetch(path)
    if not path.is_file():
        yield "missing"
        return
    try:
        if parquet.sha256(path) != listed["sha256"]:
            yield "its bytes are not those that were written (SHA-256 differs)"
        frame = parquet.read(path, table)
    except LakeError as error:
        yield str(error)
        return
    except OSError as error:
        yield one_line(error)
        return
    foreign = list(parquet.content_problems(frame, table, counts[table.owner_column].to_list()))
    yield from foreign
    if foreign:
        return
    found = dict(frame.group_by(table.owner_column).len().iter_rows())
    what = table.owner_column.removesuffix("_id")
    for owner, rows in counts.iter_rows():
        if found.get(owner, 0) != rows:
            yield f"{found.get(owner, 0)} rows of {what} {owner} instead of the {rows} written"
