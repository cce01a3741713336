"""Which files hold which runs: a part is what one head file commits, of one run or of a segment."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile
from prunelake.lake import parquet
from prunelake.lake.storage import Location, fetched, listing
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_VERSION, DERIVED
from prunelake.schema.profile_tables import COSTS, PROFILES
from prunelake.schema.run_tables import RUNS, TABLES
from prunelake.schema.table import Table
from prunelake.spec import content_hash

SEGMENT = "segment-"


@dataclass(frozen=True)
class Group:
    """Tables that are written together; the file of `head` comes last and commits the others."""

    head: Table
    tables: Mapping[str, Table]


MEASURED = Group(RUNS, TABLES)
ANALYSED = Group(ANALYSES, DERIVED)
PROFILED = Group(PROFILES, COSTS)  # of no run: its parts hold profiles, each on its own
GROUPS = (MEASURED, ANALYSED, PROFILED)


@dataclass(frozen=True)
class Part:
    """Files that one head file `<lake>/<table>/<name>.parquet` commits, of one run or of many."""

    head: Location
    listed: Mapping[str, Mapping[str, Any]]  # by table: rows and sha256 of its file
    held: frozenset[str]  # the runs that it has rows of
    run_ids: frozenset[str]  # those of them to be read from here

    def file(self, table: str) -> Location | None:
        """The file with its rows of one table; None where it has none."""
        if table == self.head.parent.name:
            return self.head
        if table not in self.listed:
            return None
        return listed_file(self.head, self.listed[table])


def parts(lake: Location, group: Group, run_ids: Collection[str] | None = None) -> list[Part]:
    """What is committed of one group, and which runs to read from which part.

    With `run_ids` only these are to be read, and no other run's own files are opened. Analyses of
    another version are never to be read.

    Raises:
        WrongFormat: a run of another format version.
        CorruptFile: a head file that does not open or has another schema.
    """
    chosen = None if run_ids is None else frozenset(run_ids)
    while True:
        loose, segments = heads(lake, group)
        if chosen is not None:
            loose = [path for path in loose if parquet.owner(path) in chosen]
        try:
            return _parts(group, loose, segments, chosen)
        except CorruptFile:
            # One that is gone by now was merged into a segment, or replaced, after it was listed.
            if all(path.is_file() for path in (*loose, *segments)):
                raise


def runs_of(parts: Iterable[Part]) -> list[str]:
    """The runs to be read from these parts, sorted."""
    return sorted(frozenset[str]().union(*(part.run_ids for part in parts)))


def heads(lake: Location, group: Group) -> tuple[list[Location], list[Location]]:
    """The head files of a group, sorted: those of single runs and those of segments."""
    # In this order: what a compaction moves between the two lists is in the second one.
    loose = [path for path in _committed(lake, group) if not is_segment(path)]
    segments = [path for path in _committed(lake, group) if is_segment(path)]
    return loose, segments


def segment_name(rows: pl.DataFrame) -> str:
    """What a segment of these head rows is called: their hash, so a changed one shows."""
    times = pl.selectors.datetime().dt.epoch("us")
    return SEGMENT + content_hash(rows.with_columns(times).to_dicts())[:16]


def listed_by(says: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """The files that a segment's head lists in its metadata; None where it lists none as it should.

    Each has `table`, `rows` and `sha256`.
    """
    try:
        found = json.loads(says.get(parquet.FILES_KEY, ""))
        return [{"table": e["table"], "rows": e["rows"], "sha256": e["sha256"]} for e in found]
    except (ValueError, TypeError, KeyError):
        return None


def listed_file(head: Location, entry: Mapping[str, Any]) -> Location:
    """Where a file is that a head lists, as one of `table` and `sha256`."""
    table: str = entry["table"]
    digest: str = entry["sha256"]
    return parquet.data_file(head.parent.parent / table / head.name, digest)


def is_segment(path: Location) -> bool:
    """Whether a file is of a segment of runs."""
    return path.name.startswith(SEGMENT)


def _committed(lake: Location, group: Group) -> list[Location]:
    found = listing(lake / group.head.name, "*.parquet")
    return [path for path in found if not path.name.startswith(".")]


def _parts(
    group: Group, loose: list[Location], segments: list[Location], chosen: frozenset[str] | None
) -> list[Part]:
    found: list[Part] = []
    read: set[str] = set()
    key = group.head.owner
    columns = [c for c in (key, "files", "analysis_version") if c in group.head.schema]
    # A run's own files come first, so they are what is read of it.
    for paths in (loose, segments):
        whole = fetched(paths)
        says = [parquet.metadata(path) for path in whole]
        rows = parquet.read_columns(whole, group.head, columns)
        for path, own, frame in zip(paths, says, rows, strict=True):
            of_many = is_segment(path)
            listed: list[dict[str, Any]] | None = None
            if of_many:
                listed = listed_by(own)
            elif frame.height == 1:
                listed = frame["files"].item()
            if listed is None or frame.is_empty():
                raise CorruptFile(
                    f"{path} is no {group.head.name} file of a {'segment' if of_many else 'run'}: "
                    f"it has {frame.height} rows and lists "
                    f"{'no' if listed is None else len(listed)} files; {parquet.remedy(path)}"
                )
            files = {entry["table"]: entry for entry in listed}
            if not of_many:
                frame = frame.with_columns(pl.lit(parquet.owner(path)).alias(key))
            held = frozenset(frame[key])
            current = held
            if group is ANALYSED:
                is_current = pl.col("analysis_version") == ANALYSIS_VERSION
                current = frozenset(frame.filter(is_current)[key])
            to_read = (current if chosen is None else current.intersection(chosen)) - read
            read |= to_read
            found.append(Part(path, files, held, to_read))
    return found
