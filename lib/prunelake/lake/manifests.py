"""Which files hold which runs: a part is what one head file commits, of one run or of a segment."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.lake import parquet
from prunelake.lake.storage import Location, list_folder, prefetch_all
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.profile_tables import PROFILE_TABLES, PROFILES
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import Table
from prunelake.spec import content_hash

SEGMENT_PREFIX = "segment-"


@dataclass(frozen=True)
class TableGroup:
    """Tables that are written together; the file of `head` comes last and commits the others."""

    manifest_table: Table
    tables: Mapping[str, Table]


RUN_GROUP = TableGroup(RUNS, RUN_TABLES)
ANALYSIS_GROUP = TableGroup(ANALYSES, ANALYSIS_TABLES)
PROFILE_GROUP = TableGroup(
    PROFILES, PROFILE_TABLES
)  # of no run: its parts hold profiles, each on its own
TABLE_GROUPS = (RUN_GROUP, ANALYSIS_GROUP, PROFILE_GROUP)


@dataclass(frozen=True)
class Manifest:
    """Files that one head file `<lake>/<table>/<name>.parquet` commits, of one run or of many."""

    path: Location
    files: Mapping[str, Mapping[str, Any]]  # by table: rows and sha256 of its file
    all_run_ids: frozenset[str]  # the runs that it has rows of
    run_ids: frozenset[str]  # those of them to be read from here

    def file(self, table: str) -> Location | None:
        """The file with its rows of one table; None where it has none."""
        if table == self.path.parent.name:
            return self.path
        if table not in self.files:
            return None
        return listed_path(self.path, self.files[table])


def manifests(
    lake: Location, group: TableGroup, run_ids: Collection[str] | None = None
) -> list[Manifest]:
    """What is committed of one group, and which runs to read from which part.

    With `run_ids` only these are to be read, and no other run's own files are opened. Analyses of
    another version are never to be read.

    Raises:
        WrongFormat: a run of another format version.
        CorruptFile: a head file that does not open or has another schema.
    """
    chosen = None if run_ids is None else frozenset(run_ids)
    while True:
        loose, segments = manifest_files(lake, group)
        if chosen is not None:
            loose = [path for path in loose if parquet.owner_id(path) in chosen]
        try:
            return _read_manifests(group, loose, segments, chosen)
        except CorruptFile:
            # One that is gone by now was merged into a segment, or replaced, after it was listed.
            if all(path.is_file() for path in (*loose, *segments)):
                raise


def readable_run_ids(parts: Iterable[Manifest]) -> list[str]:
    """The runs to be read from these parts, sorted."""
    return sorted(frozenset[str]().union(*(part.run_ids for part in parts)))


def manifest_files(lake: Location, group: TableGroup) -> tuple[list[Location], list[Location]]:
    """The head files of a group, sorted: those of single runs and those of segments."""
    # In this order: what a compaction moves between the two lists is in the second one.
    loose = [path for path in _group_manifest_files(lake, group) if not is_segment(path)]
    segments = [path for path in _group_manifest_files(lake, group) if is_segment(path)]
    return loose, segments


def segment_name(rows: pl.DataFrame) -> str:
    """What a segment of these head rows is called: their hash, so a changed one shows."""
    times = pl.selectors.datetime().dt.epoch("us")
    return SEGMENT_PREFIX + content_hash(rows.with_columns(times).to_dicts())[:16]


def segment_files(says: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """The files that a segment's head lists in its metadata; None where it lists none as it should.

    Each has `table`, `rows` and `sha256`.
    """
    try:
        found = json.loads(says.get(parquet.FILES_KEY, ""))
        return [{"table": e["table"], "rows": e["rows"], "sha256": e["sha256"]} for e in found]
    except (ValueError, TypeError, KeyError):
        return None


def listed_path(head: Location, entry: Mapping[str, Any]) -> Location:
    """Where a file is that a head lists, as one of `table` and `sha256`."""
    table: str = entry["table"]
    digest: str = entry["sha256"]
    return parquet.data_path(head.parent.parent / table / head.name, digest)


def is_segment(path: Location) -> bool:
    """Whether a file is of a segment of runs."""
    return path.name.startswith(SEGMENT_PREFIX)


def _group_manifest_files(lake: Location, group: TableGroup) -> list[Location]:
    found = list_folder(lake / group.manifest_table.name, "*.parquet")
    return [path for path in found if not path.name.startswith(".")]


def _read_manifests(
    group: TableGroup,
    loose: list[Location],
    segments: list[Location],
    chosen: frozenset[str] | None,
) -> list[Manifest]:
    found: list[Manifest] = []
    read: set[str] = set()
    key = group.manifest_table.owner_column
    columns = [c for c in (key, "files", "analysis_version") if c in group.manifest_table.schema]
    # A run's own files come first, so they are what is read of it.
    for paths in (loose, segments):
        whole = prefetch_all(paths)
        says = [parquet.checked_metadata(path) for path in whole]
        rows = parquet.read_columns(whole, group.manifest_table, columns)
        for path, own, frame in zip(paths, says, rows, strict=True):
            of_many = is_segment(path)
            listed: list[dict[str, Any]] | None = None
            if of_many:
                listed = segment_files(own)
            elif frame.height == 1:
                listed = frame["files"].item()
            if listed is None or frame.is_empty():
                raise CorruptFile(
                    f"{path} is no {group.manifest_table.name} file of a "
                    f"{'segment' if of_many else 'run'}: "
                    f"it has {frame.height} rows and lists "
                    f"{'no' if listed is None else len(listed)} files; {parquet.repair_hint(path)}"
                )
            files = {entry["table"]: entry for entry in listed}
            if not of_many:
                frame = frame.with_columns(pl.lit(parquet.owner_id(path)).alias(key))
            held = frozenset(frame[key])
            current = held
            if group is ANALYSIS_GROUP:
                is_current = pl.col("analysis_version") == ANALYSIS_VERSION
                current = frozenset(frame.filter(is_current)[key])
            to_read = (current if chosen is None else current.intersection(chosen)) - read
            read |= to_read
            found.append(Manifest(path, files, held, to_read))
    return found
