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
    ANALYSED,
    GROUPS,
    MEASURED,
    PROFILED,
    Group,
    heads,
    is_segment,
    listed_by,
    listed_file,
    parts,
    segment_name,
)
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import analysed, require, run_ids, unanalysed
from prunelake.lake.storage import Location, listing, read_now
from prunelake.schema.analysis_tables import ANALYSES
from prunelake.schema.table import FORMAT_VERSION, Table
from prunelake.spec import content_hash

SHARDS = ".shards"
"""Folder of what sweeps have computed of runs that are not complete yet, one folder a run."""

WATCH = ".watch"
"""Folder of what the watcher remembers, one JSON file each."""

ABANDONED = timedelta(days=7)
"""Shards that no sweep has touched for so long are called left over."""

AT_ONCE = 8
"""Runs that are checked at once where each file is a request."""

STALE = timedelta(hours=1)
"""So old a temporary file of the watcher, which takes no lock of the lake, is of a dead one."""


class Kind(Enum):
    """What may be done about a finding."""

    damaged = "not what was written: it and what rests on it can be moved aside"
    foreign = "of another format version: it can be migrated, or read by another PruneLake"
    unanalysed = "a run without analysis: it can be computed"
    left_over = "belongs to no complete run: it can be moved aside"
    spent = "holds nothing that anyone needs: it can be deleted"


@dataclass(frozen=True)
class Finding:
    """Something wrong with one file or folder of a lake, and what would put it right."""

    file: Location
    problem: str
    remedy: str
    kind: Kind = Kind.damaged


def doctor(lake: Location) -> list[Finding]:
    """Check every file of every complete run, analysis and profile; name what belongs to none.

    Raises:
        LakeError: no such folder.
    """
    require(lake)
    damaged = list(damage(lake))
    try:
        return [*damaged, *leftovers(lake), *_without_analysis(lake)]
    except LakeError:
        # Which runs there are is unknown while a head file does not open: that is found above.
        return damaged


def damage(lake: Location) -> Iterator[Finding]:
    """What is wrong with the files of runs, analyses and profiles: hash, schema, rows, keys, id."""
    for group in GROUPS:
        for paths in heads(lake, group):
            for head, findings in _examined(group, paths):
                # Otherwise a compaction has taken it meanwhile.
                if findings and head.is_file():
                    yield from findings


def _examined(group: Group, paths: Sequence[Location]) -> Iterator[tuple[Location, list[Finding]]]:
    """Each head, and what is wrong with the files that it commits."""
    if not any(isinstance(path, ObjectPath) for path in paths):
        for head in paths:
            yield head, list(_part_findings(group, head))
        return
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(lambda head: (head, list(_part_findings(group, head))), paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _without_analysis(lake: Location) -> Iterator[Finding]:
    for run_id in unanalysed(lake):
        path = lake / ANALYSES.name / f"{run_id}.parquet"
        problem = "missing, or of another version"
        yield Finding(path, problem, "run `prunelake analyse`", Kind.unanalysed)


def leftovers(lake: Location) -> Iterator[Finding]:
    """What belongs to no complete run or analysis, and to no sweep that may still go on.

    While a writer is at work, what it is writing is among them.

    Raises:
        WrongFormat, CorruptFile: as `read.analysed`.
    """
    yield from _table_leftovers(lake)
    yield from _shard_leftovers(lake)
    yield from _watch_leftovers(lake)


def _table_leftovers(lake: Location) -> Iterator[Finding]:
    runs, with_analysis = set(run_ids(lake)), analysed(lake)
    for group in GROUPS:
        committed = {parquet.owner(path) for paths in heads(lake, group) for path in paths}
        listed = _listed(lake, group) if isinstance(lake, ObjectPath) else set()
        owners, what = (committed, "profile") if group is PROFILED else (runs, "run")
        for path in [p for name in sorted(group.tables) for p in listing(lake / name)]:
            remedy, kind = "delete it, unless a sweep is writing now", Kind.left_over
            if path.name.startswith("."):
                problem, kind = "leftover: a temporary file", Kind.spent
            elif is_segment(path) and parquet.owner(path) not in committed:
                problem, remedy = "leftover: belongs to no segment", "run `prunelake compact`"
            elif path.suffix != ".parquet" or not (
                is_segment(path) or parquet.owner(path) in owners
            ):
                problem = f"leftover: belongs to no complete {what}"
            elif parquet.owner(path) not in committed:
                problem = f"leftover: its run has no {group.head.name} file of its own"
                is_merged = group is MEASURED or parquet.owner(path) in with_analysis
                remedy = f"run `prunelake {'compact' if is_merged else 'analyse'}`"
            elif isinstance(path, ObjectPath) and path not in listed:
                problem = f"leftover: its {what} lists another file in its place"
            else:
                continue
            yield Finding(path, problem, remedy, kind)


def _listed(lake: Location, group: Group) -> set[Location]:
    """The files that head files commit, and these."""
    return {
        file
        for part in parts(lake, group)
        for name in (group.head.name, *part.listed)
        if (file := part.file(name)) is not None
    }


def _shard_leftovers(lake: Location) -> Iterator[Finding]:
    complete = set(run_ids(lake))
    for folder in listing(lake / SHARDS):
        remedy = "run `prunelake doctor --repair`, unless a sweep of it is running now"
        unused = _unused_for(folder)
        if folder.name in complete:
            yield Finding(folder, "leftover: shards of a complete run", remedy, Kind.spent)
        elif unused > ABANDONED:
            problem = f"leftover: shards of no complete run, untouched for {unused.days} days"
            yield Finding(folder, problem, f"sweep again to finish it, or {remedy}", Kind.left_over)


def _watch_leftovers(lake: Location) -> Iterator[Finding]:
    for path in listing(lake / WATCH):
        if path.suffix == ".tmp":
            if _unused_for(path) > STALE:
                problem = "leftover: a temporary file of the watcher"
                yield Finding(path, problem, "run `prunelake doctor --repair`", Kind.spent)
        elif path.suffix == ".json":
            try:
                json.loads(path.read_bytes())
            except ValueError:
                remedy = "run `prunelake doctor --repair`: the watcher then begins anew"
                problem = "leftover: a memory of the watcher that is no JSON"
                yield Finding(path, problem, remedy, Kind.left_over)
            except FileNotFoundError:
                pass  # what was failing has succeeded meanwhile


def _unused_for(path: Location) -> timedelta:
    """How long ago a file, or the last one in a folder, was written."""
    times = []
    if isinstance(path, ObjectPath):
        each: Iterable[Location] = path.objects() if path.status is None else [path]
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


def _part_findings(group: Group, head: Location) -> Iterator[Finding]:
    remedy = parquet.remedy(head)
    try:
        whole = read_now(head)
        problem = parquet.seal_problem(whole)
        if problem:
            yield Finding(head, problem, remedy)
            return
        says = parquet.metadata(whole)
        rows = parquet.read(whole, group.head)
    except WrongFormat:
        problem = f"another format than {FORMAT_VERSION}, which this version reads"
        yield Finding(head, problem, parquet.format_remedy(head), Kind.foreign)
        return
    except LakeError as error:
        yield Finding(head, str(error), remedy)
        return
    owner = group.head.owner
    owners = rows[owner].drop_nulls().to_list() if is_segment(head) else [parquet.owner(head)]
    for problem in (
        *_head_problems(head, rows),
        *parquet.content_problems(rows, group.head, owners),
        *(_identity_problems(rows) if group is MEASURED else ()),
    ):
        yield Finding(head, problem, remedy)
    of_owners = rows.select(owner, "files").explode("files").unnest("files")
    listed = (listed_by(says) or []) if is_segment(head) else of_owners.to_dicts()
    by_table = {entry["table"]: entry for entry in listed}
    for name, table in group.tables.items():
        if table is group.head or (table.is_optional and name not in by_table):
            continue
        entry = by_table.get(name)
        path = head.parent.parent / name / head.name if entry is None else listed_file(head, entry)
        counts = of_owners.filter(pl.col("table") == name).select(owner, "rows")
        if name not in by_table and group is ANALYSED:
            problem = "its analysis is of before this table"
            yield Finding(path, problem, "run `prunelake doctor --migrate`", Kind.foreign)
            continue
        for problem in _table_problems(path, table, counts, entry):
            yield Finding(path, problem, remedy)


def _head_problems(head: Location, rows: pl.DataFrame) -> Iterator[str]:
    if not is_segment(head) and rows.height != 1:
        yield f"{rows.height} rows instead of one"
    if is_segment(head) and segment_name(rows) != parquet.owner(head):
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
    path = read_now(path)
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
    foreign = list(parquet.content_problems(frame, table, counts[table.owner].to_list()))
    yield from foreign
    if foreign:
        return
    found = dict(frame.group_by(table.owner).len().iter_rows())
    what = table.owner.removesuffix("_id")
    for owner, rows in counts.iter_rows():
        if found.get(owner, 0) != rows:
            yield f"{found.get(owner, 0)} rows of {what} {owner} instead of the {rows} written"
