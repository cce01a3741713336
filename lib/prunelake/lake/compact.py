"""Merge the files of many runs into segments: their number then follows the lake's size in rows.

No answer changes: a segment holds the rows of its runs as they were, in their order. Its tables are
written first and its head file, which lists them, last; then the files that it replaces go, head
files first. A run's own files beat a segment's, and segments that share a run agree on it. So a
process that is killed at any moment leaves a lake that reads the same, and the next one finishes.

Profiles, which are few and small, stay as they are.

Who is reading the Parquet files in that moment may find one gone, and should connect again. Readers
of the published snapshot are not touched.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake import parquet
from prunelake.lake.locks import PUBLISHING, locked
from prunelake.lake.manifests import (
    ANALYSED,
    MEASURED,
    SEGMENT,
    Group,
    Part,
    heads,
    is_segment,
    listed_file,
    parts,
    segment_name,
)
from prunelake.lake.read import require, run_ids
from prunelake.lake.storage import Location, delete, read_now, sync
from prunelake.schema.table import Table
from prunelake.schema.tables import EVERY

SEGMENT_ROWS = 1_000_000
"""A segment with as many rows in one of its tables is merged with no more runs."""


def compact(lake: Location) -> tuple[int, int]:
    """Merge what can be merged; the number of the lake's files before and after.

    Waits for writers and publishers, which then wait for it.

    Raises:
        LakeError: no such folder, or one that cannot be written.
        WrongFormat: a run of another format version.
        CorruptFile: a file to be merged is not what was written; nothing is lost by that.
    """
    require(lake)
    try:
        with locked(lake, PUBLISHING), locked(lake):
            before = _count(lake)
            for group in (MEASURED, ANALYSED):
                found = parts(lake, group, run_ids(lake))
                # First, for what is merged may be called as one of these.
                _remove(lake, group, [p for p in found if is_segment(p.head) and not p.run_ids])
                for batch in _batches([part for part in found if part.run_ids]):
                    _merge(lake, group, batch)
            return before, _count(lake)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{lake} could not be compacted: {one_line(error)}; it reads as before: make room or "
            "fix the permissions and compact again"
        ) from error


def drop(lake: Location, group: Group, run_ids: Collection[str]) -> None:
    """Remove what a group has of these runs, whole: no reader sees a part of one.

    A run's own files go, their head first; a segment with rows of it is written again without them.
    Whoever calls this holds the locks of publishers and writers.

    Raises:
        WrongFormat, CorruptFile: as `compact`.
    """
    gone = frozenset(run_ids)
    own = [path for path in heads(lake, group)[0] if parquet.owner(path) in gone]
    for head in own:
        delete(head)
    if own:
        sync(own[0].parent)
    for part in parts(lake, group):
        if is_segment(part.head) and part.held & gone:
            rest = replace(part, run_ids=part.run_ids - gone)
            if rest.run_ids:
                _merge(lake, group, [rest])
            else:
                _remove(lake, group, [part])
    for name in group.tables if gone else ():
        for path in (lake / name).glob("*"):
            if parquet.owner(path) in gone:
                delete(path)


def _batches(found: Sequence[Part]) -> Iterator[list[Part]]:
    """The parts that are merged into one segment each; none where nothing would be gained."""
    # Segments first: an analysis that beats one in a segment must not go before that segment.
    segments = [part for part in found if is_segment(part.head) and _is_open(part)]
    loose = [part for part in found if not is_segment(part.head)]
    if len(segments) == 1 and not loose and segments[0].run_ids == segments[0].held:
        return
    batch: list[Part] = []
    for part in (*segments, *loose):
        batch.append(part)
        if _size(batch) >= SEGMENT_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_open(segment: Part) -> bool:
    """Whether a segment is to be merged again: it is small, or has rows that nobody reads."""
    return _size([segment]) < SEGMENT_ROWS or segment.run_ids != segment.held


def _size(batch: Sequence[Part]) -> int:
    """The rows of the largest table."""
    names = {name for part in batch for name in part.listed}
    return max(
        (sum(p.listed[name]["rows"] for p in batch if name in p.listed) for name in names),
        default=0,
    )


def _merge(lake: Location, group: Group, batch: Sequence[Part]) -> None:
    """Write the segment of these parts, and remove their head files: it is read instead."""
    for part in batch:
        _require_whole(part, group.head)
    head = write_segment(lake, group, lambda table: _rows(batch, table))
    _remove(lake, group, [part for part in batch if part.head != head])


def write_segment(
    lake: Location, group: Group, rows_of: Callable[[Table], pl.DataFrame]
) -> Location:
    """Write a segment of the rows of each table, sorted by run; its head file, which comes last."""
    rows = rows_of(group.head)
    name = segment_name(rows)
    head = lake / group.head.name / f"{name}.parquet"
    # Where it exists, whoever wrote it was killed before removing what it replaces.
    if not head.exists():
        listed = []
        for table in group.tables.values():
            if table is group.head:
                continue
            frame = rows_of(table)
            if table.is_optional and frame.is_empty():
                continue
            path = lake / table.name / head.name
            digest = parquet.write_data(path, table, frame)
            listed.append({"table": table.name, "rows": frame.height, "sha256": digest})
        parquet.create_head(head, group.head, rows, {parquet.FILES_KEY: json.dumps(listed)})
    return head


def _rows(batch: Sequence[Part], table: Table) -> pl.DataFrame:
    frames = [
        parquet.read(path, table).filter(pl.col("run_id").is_in(part.run_ids))
        for part in batch
        if (path := part.file(table.name)) is not None
    ]
    # Within a run the order stays: sums of floats depend on it.
    return pl.concat([table.frame([]), *frames]).sort("run_id", maintain_order=True)


def _require_whole(part: Part, head: Table) -> None:
    """Raise where a file is not the one that was written: merged, its rows would pass for whole."""
    whole = read_now(part.head)
    if problem := parquet.seal_problem(whole):
        raise CorruptFile(f"{part.head}: {problem}; {parquet.remedy(part.head)}")
    if is_segment(part.head) and segment_name(parquet.read(whole, head)) != parquet.owner(
        part.head
    ):
        raise CorruptFile(f"{part.head}: other rows than written; {parquet.remedy(part.head)}")
    for listed in part.listed.values():
        path = listed_file(part.head, listed)
        if parquet.sha256(path) != listed["sha256"]:
            raise CorruptFile(f"{path}: SHA-256 differs; {parquet.remedy(path)}")


def _remove(lake: Location, group: Group, replaced: Sequence[Part]) -> None:
    """Remove parts that are read no more, and what a killed compaction left or began."""
    for of_many in (True, False):
        for part in replaced:
            if is_segment(part.head) == of_many:
                delete(part.head)
        if replaced:
            # No crash of the machine may bring back a segment, but not what beats it.
            sync(lake / group.head.name)
    loose, segments = ({parquet.owner(path) for path in paths} for paths in heads(lake, group))
    merged = frozenset[str]().union(*(p.held for p in parts(lake, group) if is_segment(p.head)))
    for name in group.tables:
        for path in (lake / name).glob("*"):
            is_unfinished = path.name.startswith(f".{SEGMENT}")
            is_left = is_segment(path) and parquet.owner(path) not in segments
            is_replaced = parquet.owner(path) in merged and parquet.owner(path) not in loose
            if is_unfinished or is_left or is_replaced:
                delete(path)


def _count(lake: Location) -> int:
    return sum(1 for name in EVERY for _ in (lake / name).glob("*"))
