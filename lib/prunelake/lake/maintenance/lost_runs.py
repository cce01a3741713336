"""Lost runs: complete data files whose manifest is missing.

A writer writes the row of the owner table last of all data files. So if this file exists, all
others exist too, and the run can be committed again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.lake.files import parquet
from prunelake.lake.files.entries import commit_manifest
from prunelake.lake.files.listed_file import ListedFile, hex_digest, list_file
from prunelake.lake.files.manifests import Manifest, Owner, read_group, readable_run_ids
from prunelake.lake.files.paths import ManifestName, is_segment, parse_data_file, parse_manifest
from prunelake.lake.files.verified import read_verified
from prunelake.lake.storage.location import Location, list_folder
from prunelake.schema.run_tables import RUN_TABLES, RUNS


@dataclass(frozen=True)
class LostRun:
    """A run, or a segment of runs, with a file of `runs` and without a manifest."""

    name: ManifestName
    file: Location
    rows: pl.DataFrame

    @property
    def run_ids(self) -> list[str]:
        """The lost runs."""
        return sorted(self.rows["run_id"])


def find_lost_runs(lake: Location) -> Iterator[LostRun]:
    """The lost runs of a lake, without runs that other files still have.

    Raises:
        WrongFormat: as `read_group`.
    """
    folder = lake / RUNS.name
    paths = list_folder(folder)
    # A retired manifest was removed on purpose; a void manifest belongs to a dead writer.
    known = {name for path in paths if (name := parse_manifest(path)) is not None}
    complete = set(readable_run_ids(read_group(lake, RUN_TABLES).select()))
    for path in paths:
        parsed = parse_data_file(path)
        if parsed is None or parsed[0] in known:
            continue
        try:
            rows = parquet.read(path, RUNS)
        except CorruptFile:
            continue  # damaged; it is a leftover
        lost = rows.filter(~pl.col("run_id").is_in(complete))
        if not lost.is_empty():
            yield LostRun(parsed[0], path, lost)


def restore(lake: Location, lost: LostRun) -> bool:
    """Commit a lost run again; False if one of its files is missing or has changed."""
    files: dict[str, ListedFile] = {}
    rows_by_owner: dict[str, dict[str, int]] = {run_id: {} for run_id in lost.run_ids}
    for table in RUN_TABLES.values():
        pattern = f"{lost.name.entry}.{lost.name.generation}.*.parquet"
        paths = list_folder(lake / table.name, pattern)
        if not paths and table.is_optional:
            continue
        if len(paths) != 1 or parse_data_file(paths[0]) is None:
            return False
        try:
            content, frame = read_verified(paths[0]), parquet.read(paths[0], table)
        except CorruptFile:
            return False
        files[table.name] = list_file(content, frame.height)
        counts = dict(frame.group_by(table.owner_column).len().iter_rows())
        for run_id, rows in rows_by_owner.items():
            rows[table.name] = counts.get(run_id, 0)
    generation = 1 if is_segment(lost.file) else lost.name.generation
    owners = {
        run_id: Owner(commit=_commit(lost, run_id), generation=generation, rows=rows)
        for run_id, rows in rows_by_owner.items()
    }
    return commit_manifest(lake, RUN_TABLES, lost.name, Manifest(owners=owners, files=files))


def _commit(lost: LostRun, run_id: str) -> str:
    """The commit that the run had: its analysis belongs to it.

    If another version of polars wrote the row, a segment gives another commit, and the run is
    analysed again.
    """
    parsed = parse_data_file(lost.file)
    if parsed is not None and not is_segment(lost.file):
        return parsed[1]
    return hex_digest(parquet.encode(lost.rows.filter(run_id=run_id)))[:16]
