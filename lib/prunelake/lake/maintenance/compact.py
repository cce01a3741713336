"""Merge the files of many runs into segments, so that the number of files depends only on the rows.

No answer changes: a segment holds the rows of its runs in their order. Its data files are written
first and its manifest last. Then the replaced files are removed, manifests first. A run's own files
take precedence over a segment, and segments with the same run have the same rows of it. So a
process may be killed at any moment: queries give the same answers, and the next compaction finishes
the work.

Profiles are few and small, and are not merged.

A reader of the Parquet files may find that a file has been removed, and should connect again.
Readers of the published snapshot notice nothing.
"""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake.files import parquet
from prunelake.lake.files.checksums import CHECKSUM_DIFFERS, sha256
from prunelake.lake.files.findings import repair_hint
from prunelake.lake.files.manifest_files import (
    create_manifest,
    listed_files_as_rows,
    write_data_file,
)
from prunelake.lake.files.manifests import (
    FILES_KEY,
    Manifest,
    manifest_files,
    manifests,
    segment_name,
)
from prunelake.lake.files.paths import SEGMENT_PREFIX, is_segment, owner_id, table_file
from prunelake.lake.read import require_lake, run_ids
from prunelake.lake.storage.location import Location, delete, fsync, prefetch
from prunelake.lake.storage.locks import PUBLISH_LOCK, locked
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table, TableGroup
from prunelake.schema.tables import ALL_TABLES

SEGMENT_ROWS = 1_000_000
"""A segment with this many rows in one of its tables is full: no more runs are merged into it."""


def compact(lake: Location) -> tuple[int, int]:
    """Merge the files of runs and analyses; return the number of files before and after.

    Waits for running writers and publishers; new ones wait for the compaction.

    Raises:
        LakeError: no such folder, or a folder that cannot be written.
        WrongFormat: a run of another format version.
        CorruptFile: a file to be merged is damaged; no rows are lost.
    """
    require_lake(lake)
    try:
        with locked(lake, PUBLISH_LOCK), locked(lake):
            before = _file_count(lake)
            for group in (RUN_TABLES, ANALYSIS_TABLES):
                stored = manifests(lake, group, run_ids(lake))
                # Remove unread segments first, because a new segment may get the name of one of
                # them.
                unread = [m for m in stored if is_segment(m.path) and not m.run_ids]
                _remove_merged(lake, group, unread)
                for batch in _merge_batches([m for m in stored if m.run_ids]):
                    _merge(lake, group, batch)
            return before, _file_count(lake)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{lake} could not be compacted: {one_line(error)}; it reads as before: make room or "
            "fix the permissions and compact again"
        ) from error


def delete_entries(lake: Location, group: TableGroup, run_ids: Collection[str]) -> None:
    """Remove runs (or profiles) from a group of tables; no reader sees a part of a run.

    The manifests of single runs are deleted first. A segment with rows of a removed run is written
    again without these rows. The caller holds the locks of publishers and writers.

    Raises:
        WrongFormat, CorruptFile: as `compact`.
    """
    removed = frozenset(run_ids)
    single = [path for path in manifest_files(lake, group)[0] if owner_id(path) in removed]
    for path in single:
        delete(path)
    if single:
        fsync(single[0].parent)
    for manifest in manifests(lake, group):
        if is_segment(manifest.path) and manifest.all_run_ids & removed:
            rest = replace(manifest, run_ids=manifest.run_ids - removed)
            if rest.run_ids:
                _merge(lake, group, [rest])
            else:
                _remove_merged(lake, group, [manifest])
    for name in group if removed else ():
        for path in (lake / name).glob("*"):
            if owner_id(path) in removed:
                delete(path)


def _merge_batches(stored: Sequence[Manifest]) -> Iterator[list[Manifest]]:
    """The manifests to merge into one segment each; none if merging would gain nothing."""
    # Segments come first: an analysis of a run must not be removed before a segment with an older
    # analysis of this run.
    segments = [m for m in stored if is_segment(m.path) and _needs_merge(m)]
    single = [m for m in stored if not is_segment(m.path)]
    if len(segments) == 1 and not single and segments[0].run_ids == segments[0].all_run_ids:
        return
    batch: list[Manifest] = []
    for manifest in (*segments, *single):
        batch.append(manifest)
        if _largest_table_rows(batch) >= SEGMENT_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _needs_merge(segment: Manifest) -> bool:
    """Whether to merge a segment again: it is not full, or has rows that nobody reads."""
    return _largest_table_rows([segment]) < SEGMENT_ROWS or segment.run_ids != segment.all_run_ids


def _largest_table_rows(batch: Sequence[Manifest]) -> int:
    """The number of rows in the largest table of a batch."""
    names = {name for manifest in batch for name in manifest.files}
    return max(
        (sum(m.files[name].rows for m in batch if name in m.files) for name in names),
        default=0,
    )


def _merge(lake: Location, group: TableGroup, batch: Sequence[Manifest]) -> None:
    """Write the segment of a batch, and remove the manifests that it replaces."""
    for manifest in batch:
        _require_undamaged(manifest, group.manifest_table)
    segment = write_segment(lake, group, lambda table: _merged_rows(batch, table))
    _remove_merged(lake, group, [manifest for manifest in batch if manifest.path != segment])


def write_segment(
    lake: Location, group: TableGroup, rows_of: Callable[[Table], pl.DataFrame]
) -> Location:
    """Write a segment with the rows of each table, sorted by run; return the path of its manifest.

    `rows_of` is called for one table at a time, so that only one table is in memory.
    """
    rows = rows_of(group.manifest_table)
    name = segment_name(rows)
    path = table_file(lake, group.manifest_table.name, name)
    # If the segment exists, its writer was killed before it removed the replaced files.
    if not path.exists():
        files = []
        for table in group.data_tables:
            frame = rows_of(table)
            if not (table.is_optional and frame.is_empty()):
                files.append(write_data_file(lake, table, name, frame))
        metadata = {FILES_KEY: json.dumps(listed_files_as_rows(files))}
        create_manifest(path, group.manifest_table, rows, metadata)
    return path


def _merged_rows(batch: Sequence[Manifest], table: Table) -> pl.DataFrame:
    frames = [
        parquet.read(path, table).filter(pl.col("run_id").is_in(manifest.run_ids))
        for manifest in batch
        if (path := manifest.file(table.name)) is not None
    ]
    # Keep the order within a run, because sums of floats depend on it.
    return pl.concat([table.frame([]), *frames]).sort("run_id", maintain_order=True)


def _require_undamaged(manifest: Manifest, table: Table) -> None:
    """Raise CorruptFile for a damaged file: after merging, its rows would look undamaged."""
    path = manifest.path
    fetched = prefetch(path)
    if problem := parquet.manifest_problem(fetched):
        raise CorruptFile(f"{path}: {problem}; {repair_hint(path)}")
    if is_segment(path) and segment_name(parquet.read(fetched, table)) != owner_id(path):
        raise CorruptFile(f"{path}: other rows than were written; {repair_hint(path)}")
    for file in manifest.files.values():
        data_path = file.path(path)
        if sha256(data_path) != file.sha256:
            raise CorruptFile(f"{data_path}: {CHECKSUM_DIFFERS}; {repair_hint(data_path)}")


def _remove_merged(lake: Location, group: TableGroup, replaced: Sequence[Manifest]) -> None:
    """Remove replaced manifests, then all files that no manifest needs any more.

    These include files of a killed compaction.
    """
    for segments_first in (True, False):
        for manifest in replaced:
            if is_segment(manifest.path) == segments_first:
                delete(manifest.path)
        if replaced:
            # A crash must not bring back a segment without the run that overrides it.
            fsync(lake / group.manifest_table.name)
    single, segments = ({owner_id(path) for path in paths} for paths in manifest_files(lake, group))
    merged = frozenset[str]().union(
        *(m.all_run_ids for m in manifests(lake, group) if is_segment(m.path))
    )
    for name in group:
        for path in (lake / name).glob("*"):
            owner = owner_id(path)
            is_unfinished = path.name.startswith(f".{SEGMENT_PREFIX}")
            is_left_over = is_segment(path) and owner not in segments
            is_replaced = owner in merged and owner not in single
            if is_unfinished or is_left_over or is_replaced:
                delete(path)


def _file_count(lake: Location) -> int:
    return sum(1 for name in ALL_TABLES for _ in (lake / name).glob("*"))
