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
from prunelake.lake.locks import PUBLISH_LOCK, locked
from prunelake.lake.manifests import (
    ANALYSIS_GROUP,
    RUN_GROUP,
    SEGMENT_PREFIX,
    Manifest,
    TableGroup,
    is_segment,
    listed_path,
    manifest_files,
    manifests,
    segment_name,
)
from prunelake.lake.read import require_lake, run_ids
from prunelake.lake.storage import Location, delete, fsync, prefetch
from prunelake.schema.table import Table
from prunelake.schema.tables import ALL_TABLES

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
    require_lake(lake)
    try:
        with locked(lake, PUBLISH_LOCK), locked(lake):
            before = _file_count(lake)
            for group in (RUN_GROUP, ANALYSIS_GROUP):
                found = manifests(lake, group, run_ids(lake))
                # First, for what is merged may be called as one of these.
                _remove_merged(
                    lake, group, [p for p in found if is_segment(p.path) and not p.run_ids]
                )
                for batch in _merge_batches([part for part in found if part.run_ids]):
                    _merge(lake, group, batch)
            return before, _file_count(lake)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{lake} could not be compacted: {one_line(error)}; it reads as before: make room or "
            "fix the permissions and compact again"
        ) from error


def delete_entries(lake: Location, group: TableGroup, run_ids: Collection[str]) -> None:
    """Remove what a group has of these runs, whole: no reader sees a part of one.

    A run's own files go, their head first; a segment with rows of it is written again without them.
    Whoever calls this holds the locks of publishers and writers.

    Raises:
        WrongFormat, CorruptFile: as `compact`.
    """
    gone = frozenset(run_ids)
    own = [path for path in manifest_files(lake, group)[0] if parquet.owner_id(path) in gone]
    for head in own:
        delete(head)
    if own:
        fsync(own[0].parent)
    for part in manifests(lake, group):
        if is_segment(part.path) and part.all_run_ids & gone:
            rest = replace(part, run_ids=part.run_ids - gone)
            if rest.run_ids:
                _merge(lake, group, [rest])
            else:
                _remove_merged(lake, group, [part])
    for name in group.tables if gone else ():
        for path in (lake / name).glob("*"):
            if parquet.owner_id(path) in gone:
                delete(path)


def _merge_batches(found: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """The parts that are merged into one segment each; none where nothing would be gained."""
    # Segments first: an analysis that beats one in a segment must not go before that segment.
    segments = [part for part in found if is_segment(part.path) and _needs_merge(part)]
    loose = [part for part in found if not is_segment(part.path)]
    if len(segments) == 1 and not loose and segments[0].run_ids == segments[0].all_run_ids:
        return
    batch: list[Manifest] = []
    for part in (*segments, *loose):
        batch.append(part)
        if _largest_table_rows(batch) >= SEGMENT_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _needs_merge(segment: Manifest) -> bool:
    """Whether a segment is to be merged again: it is small, or has rows that nobody reads."""
    return _largest_table_rows([segment]) < SEGMENT_ROWS or segment.run_ids != segment.all_run_ids


def _largest_table_rows(batch: Sequence[Manifest]) -> int:
    """The rows of the largest table."""
    names = {name for part in batch for name in part.files}
    return max(
        (sum(p.files[name]["rows"] for p in batch if name in p.files) for name in names),
        default=0,
    )


def _merge(lake: Location, group: TableGroup, batch: Sequence[Manifest]) -> None:
    """Write the segment of these parts, and remove their head files: it is read instead."""
    for part in batch:
        _require_undamaged(part, group.manifest_table)
    head = write_segment(lake, group, lambda table: _merged_rows(batch, table))
    _remove_merged(lake, group, [part for part in batch if part.path != head])


def write_segment(
    lake: Location, group: TableGroup, rows_of: Callable[[Table], pl.DataFrame]
) -> Location:
    """Write a segment of the rows of each table, sorted by run; its head file, which comes last."""
    rows = rows_of(group.manifest_table)
    name = segment_name(rows)
    head = lake / group.manifest_table.name / f"{name}.parquet"
    # Where it exists, whoever wrote it was killed before removing what it replaces.
    if not head.exists():
        listed = []
        for table in group.tables.values():
            if table is group.manifest_table:
                continue
            frame = rows_of(table)
            if table.is_optional and frame.is_empty():
                continue
            path = lake / table.name / head.name
            digest = parquet.write_data(path, table, frame)
            listed.append({"table": table.name, "rows": frame.height, "sha256": digest})
        parquet.create_manifest(
            head, group.manifest_table, rows, {parquet.FILES_KEY: json.dumps(listed)}
        )
    return head


def _merged_rows(batch: Sequence[Manifest], table: Table) -> pl.DataFrame:
    frames = [
        parquet.read(path, table).filter(pl.col("run_id").is_in(part.run_ids))
        for part in batch
        if (path := part.file(table.name)) is not None
    ]
    # Within a run the order stays: sums of floats depend on it.
    return pl.concat([table.frame([]), *frames]).sort("run_id", maintain_order=True)


def _require_undamaged(part: Manifest, head: Table) -> None:
    """Raise where a file is not the one that was written: merged, its rows would pass for whole."""
    whole = prefetch(part.path)
    if problem := parquet.checksum_problem(whole):
        raise CorruptFile(f"{part.path}: {problem}; {parquet.repair_hint(part.path)}")
    if is_segment(part.path) and segment_name(parquet.read(whole, head)) != parquet.owner_id(
        part.path
    ):
        raise CorruptFile(f"{part.path}: other rows than written; {parquet.repair_hint(part.path)}")
    for listed in part.files.values():
        path = listed_path(part.path, listed)
        if parquet.sha256(path) != listed["sha256"]:
            raise CorruptFile(f"{path}: SHA-256 differs; {parquet.repair_hint(path)}")


def _remove_merged(lake: Location, group: TableGroup, replaced: Sequence[Manifest]) -> None:
    """Remove parts that are read no more, and what a killed compaction left or began."""
    for of_many in (True, False):
        for part in replaced:
            if is_segment(part.path) == of_many:
                delete(part.path)
        if replaced:
            # No crash of the machine may bring back a segment, but not what beats it.
            fsync(lake / group.manifest_table.name)
    loose, segments = (
        {parquet.owner_id(path) for path in paths} for paths in manifest_files(lake, group)
    )
    merged = frozenset[str]().union(
        *(p.all_run_ids for p in manifests(lake, group) if is_segment(p.path))
    )
    for name in group.tables:
        for path in (lake / name).glob("*"):
            is_unfinished = path.name.startswith(f".{SEGMENT_PREFIX}")
            is_left = is_segment(path) and parquet.owner_id(path) not in segments
            is_replaced = parquet.owner_id(path) in merged and parquet.owner_id(path) not in loose
            if is_unfinished or is_left or is_replaced:
                delete(path)


def _file_count(lake: Location) -> int:
    return sum(1 for name in ALL_TABLES for _ in (lake / name).glob("*"))
