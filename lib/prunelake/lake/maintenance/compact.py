"""Merge the files of many runs into segments, so that the number of files depends only on the rows.

No answer changes: a segment holds the rows of its runs in their order, and readers prefer it to the
runs' own files. Garbage collection deletes the replaced files after its grace period. So a process
may be killed at any moment, and readers at work notice nothing.

Profiles are few and small, and are not merged.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from prunelake.lake.files import parquet
from prunelake.lake.files.entries import commit_manifest, next_name, segment_name, write_files
from prunelake.lake.files.manifests import Manifest, Owner, StoredManifest
from prunelake.lake.files.paths import is_segment
from prunelake.lake.files.write_errors import write_errors
from prunelake.lake.read import LakeContent, read_content
from prunelake.lake.storage.location import Location
from prunelake.lake.storage.locks import MAINTENANCE_LOCK, locked
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table, TableGroup

SEGMENT_ROWS = 1_000_000
"""A segment with this many rows in one of its tables is full: no more runs are merged into it."""


def compact(lake: Location) -> tuple[int, int]:
    """Merge the files of runs and analyses; return how many files readers open, before and after.

    Damaged runs stay as they are. Writers continue.

    Raises:
        LakeError: no such folder, or a folder that cannot be written.
        WrongFormat: a run of another format version.
    """
    before = read_content(lake)
    failure = f"{lake} could not be compacted, and reads as before"
    with write_errors(failure, "compact again"), locked(lake, MAINTENANCE_LOCK):
        for group in (RUN_TABLES, ANALYSIS_TABLES):
            content = read_content(lake)
            for batch in _merge_batches([m for m in content.group(group) if m.run_ids]):
                _merge(lake, group, batch)
    return _file_count(before), _file_count(read_content(lake))


def _merge_batches(stored: Sequence[StoredManifest]) -> Iterator[list[StoredManifest]]:
    """The manifests to merge into one segment each; none if merging would gain nothing."""
    waiting = [m for m in stored if not is_segment(m.path) or _needs_merge(m)]
    if len(waiting) == 1 and (
        not is_segment(waiting[0].path) or waiting[0].run_ids == waiting[0].all_run_ids
    ):
        return
    batch: list[StoredManifest] = []
    for manifest in waiting:
        batch.append(manifest)
        if _largest_table_rows(batch) >= SEGMENT_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _needs_merge(segment: StoredManifest) -> bool:
    """Whether to merge a segment again: it is not full, or has rows that nobody reads."""
    return _largest_table_rows([segment]) < SEGMENT_ROWS or segment.run_ids != segment.all_run_ids


def _largest_table_rows(batch: Sequence[StoredManifest]) -> int:
    """The number of rows in the largest table of a batch."""
    names = {name for manifest in batch for name in manifest.files}
    return max(
        (sum(m.files[name].rows for m in batch if name in m.files) for name in names),
        default=0,
    )


def _merge(lake: Location, group: TableGroup, batch: Sequence[StoredManifest]) -> None:
    """Write the segment of a batch."""
    owners: dict[str, Owner] = {
        run_id: manifest.content.owners[run_id]
        for manifest in batch
        for run_id in sorted(manifest.run_ids)
    }
    version = batch[0].content.analysis_version
    entry = segment_name(owners, version)
    # One table at a time is in memory.
    while (name := next_name(lake, group, entry)) is not None:
        frames = ((table, _merged_rows(batch, table)) for table in group.values())
        content = Manifest(
            analysis_version=version, owners=owners, files=write_files(lake, name, frames)
        )
        if commit_manifest(lake, group, name, content):
            return


def _merged_rows(batch: Sequence[StoredManifest], table: Table) -> pl.DataFrame:
    frames = [
        parquet.read(path, table).filter(pl.col("run_id").is_in(manifest.run_ids))
        for manifest in batch
        if (path := manifest.file(table.name)) is not None
    ]
    # Keep the order within a run, because sums of floats depend on it.
    return pl.concat([table.frame([]), *frames]).sort("run_id", maintain_order=True)


def _file_count(content: LakeContent) -> int:
    return sum(1 + len(manifest.files) for manifest in content.manifests)
