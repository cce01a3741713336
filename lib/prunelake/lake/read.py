"""The lake: one Parquet file a table and run; a run exists once its `runs` file does.

`<lake>/<table>/<run_id>.parquet`, the `runs` file written last. It lists the others, and everything
that reads the lake sees what complete runs list. An analysis is stored in the same way beside its
run, its `analyses` file last. `compact` merges the files of many runs into those of a segment,
`<lake>/<table>/segment-<hash>.parquet`; a run's own files beat a segment's. Profiles, which are of
no run, are stored like runs, their `profiles` file last.

In an object store nothing can be renamed, and a lock may be lost. There a file that is listed has
the begin of its SHA-256 in its name, `<run_id>.<hash>.parquet`, and the file that lists it is put
only where there is none: the first of two writers wins, and nobody can change what a run lists.
"""

from collections.abc import Callable, Collection, Sequence

import polars as pl

from prunelake.errors import CorruptFile, LakeError
from prunelake.lake import parquet
from prunelake.lake.manifests import (
    ANALYSIS_GROUP,
    PROFILE_GROUP,
    RUN_GROUP,
    Manifest,
    manifest_files,
    manifests,
    readable_run_ids,
)
from prunelake.lake.storage import Location, prefetch_all
from prunelake.schema.run_tables import RUNS
from prunelake.schema.tables import ALL_TABLES

Analyse = Callable[[Location, str], None]
"""Computes the analysis of one run of a lake: `analysis.analyse.analyse`, which is above this."""


def has_run(lake: Location, run_id: str) -> bool:
    """Whether the lake holds this run, complete."""
    return _table_file(lake, RUNS.name, run_id).is_file() or run_id in run_ids(lake)


def run_ids(lake: Location) -> list[str]:
    """The complete runs, sorted; none where there is no lake yet."""
    loose, segments = manifest_files(lake, RUN_GROUP)
    rows = parquet.read_columns(segments, RUNS, ["run_id"])
    return sorted({parquet.owner_id(p) for p in loose}.union(*(frame["run_id"] for frame in rows)))


def profile_ids(lake: Location) -> list[str]:
    """The complete profiles, sorted; none where there is no lake yet."""
    loose, _ = manifest_files(lake, PROFILE_GROUP)
    return [parquet.owner_id(path) for path in loose]


def run_manifest_files(lake: Location) -> list[Location]:
    """The files whose names change whenever a run is added."""
    return [path for found in manifest_files(lake, RUN_GROUP) for path in found]


def read_run_columns(lake: Location, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of `runs` over all complete runs, and no other file opened.

    A run that a compaction is just moving may be there twice. None where there is no lake yet.

    Raises:
        CorruptFile: a `runs` file that cannot be read or has another schema.
    """
    while True:
        paths = run_manifest_files(lake)
        try:
            rows = parquet.read_columns(paths, RUNS, columns)
        except CorruptFile:
            if all(path.is_file() for path in paths):
                raise
            continue  # a compaction has taken it
        return pl.concat([RUNS.frame([]).select(columns), *rows])


def complete_manifests(lake: Location, chosen: Collection[str] | None = None) -> list[Manifest]:
    """The parts with all complete runs, or the chosen ones, their current analyses, and profiles.

    The profiles are all of the lake, for they are of no run.

    Raises:
        LakeError: no lake, or no such run.
        WrongFormat, CorruptFile: as `manifests`.
    """
    require_lake(lake)
    measured = manifests(lake, RUN_GROUP, chosen)
    complete = readable_run_ids(measured)
    for run_id in chosen or ():
        if run_id not in complete:
            count = len(run_ids(lake))
            raise LakeError(f"no complete run {run_id!r} in {lake}; it has {count} runs")
    return [
        *measured,
        *manifests(lake, ANALYSIS_GROUP, frozenset(complete)),
        *manifests(lake, PROFILE_GROUP),
    ]


def analysed_run_ids(lake: Location) -> set[str]:
    """The complete runs with an analysis of this version.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `complete_manifests`.
    """
    require_lake(lake)
    return set(readable_run_ids(manifests(lake, ANALYSIS_GROUP, run_ids(lake))))


def unanalysed_run_ids(lake: Location) -> list[str]:
    """The complete runs without an analysis of this version, sorted.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `complete_manifests`.
    """
    return sorted(set(run_ids(lake)) - analysed_run_ids(lake))


def read_table(lake: Location, name: str, run_ids: Collection[str] | None = None) -> pl.DataFrame:
    """The rows of one table over all complete runs, or over those of `run_ids`.

    Those of a table of profiles are of all profiles.

    Raises:
        LakeError: no lake, no such table, or no such run.
        WrongFormat: a run of another format version.
        CorruptFile: a file that cannot be read or has another schema.
    """
    table = ALL_TABLES.get(name)
    if table is None:
        raise LakeError(f"no table {name!r}; the lake has {', '.join(ALL_TABLES)}")
    frames = [table.frame([])]
    sources = [
        (part, path)
        for part in complete_manifests(lake, run_ids)
        if (path := part.file(name)) is not None and part.run_ids
    ]
    for (part, _), path in zip(sources, prefetch_all([path for _, path in sources]), strict=True):
        try:
            rows = parquet.read(path, table)
        except CorruptFile:
            if part.path.is_file():
                raise
            return read_table(lake, name, run_ids)  # a compaction has taken it
        frames.append(rows.filter(pl.col(table.owner_column).is_in(part.run_ids)))
    return pl.concat(frames)


def check_format(lake: Location) -> None:
    """Raise unless every complete run opens and is of this format version.

    Raises:
        LakeError: no such folder.
        WrongFormat: a run of another format version, or of none.
        CorruptFile: a `runs` file that does not open as Parquet.
    """
    require_lake(lake)
    manifests(lake, RUN_GROUP)


def require_lake(lake: Location) -> None:
    """Raise LakeError where there is no lake."""
    if not lake.is_dir():
        raise LakeError(f"no lake at {lake}; set PRUNELAKE_LAKE, or sweep into it first")


def _table_file(lake: Location, table: str, owner: str) -> Location:
    return lake / table / f"{owner}.parquet"
