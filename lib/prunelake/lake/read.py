"""Read a lake: its complete runs, their analyses, and the rows of its tables."""

import json
from collections.abc import Collection, Sequence

import polars as pl

from prunelake.errors import CorruptFile, LakeError
from prunelake.lake.files import parquet
from prunelake.lake.files.findings import repair_hint
from prunelake.lake.files.manifests import (
    Manifest,
    manifest_files,
    manifests,
    read_manifest_columns,
    readable_run_ids,
)
from prunelake.lake.files.paths import owner_id, table_file
from prunelake.lake.storage.location import Location, prefetch, prefetch_all
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.tables import ALL_TABLES


def has_run(lake: Location, run_id: str) -> bool:
    """Whether the lake holds this run completely."""
    return table_file(lake, RUNS.name, run_id).is_file() or run_id in run_ids(lake)


def run_ids(lake: Location) -> list[str]:
    """The ids of the complete runs, sorted; none if there is no lake yet."""
    single, segments = manifest_files(lake, RUN_TABLES)
    rows = parquet.read_columns(segments, RUNS, ["run_id"])
    return sorted({owner_id(path) for path in single}.union(*(frame["run_id"] for frame in rows)))


def profile_ids(lake: Location) -> list[str]:
    """The ids of the complete profiles, sorted; none if there is no lake yet."""
    single, _ = manifest_files(lake, PROFILE_TABLES)
    return [owner_id(path) for path in single]


def run_manifest_files(lake: Location) -> list[Location]:
    """The manifests of runs and of segments of runs; every added run changes this list."""
    single, segments = manifest_files(lake, RUN_TABLES)
    return [*single, *segments]


def read_run_columns(lake: Location, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of `runs` over all complete runs, without opening any other table.

    While a run is being compacted it may appear twice. Without a lake there are no rows.

    Raises:
        WrongFormat: a run of another format version.
        CorruptFile: a `runs` file that cannot be read or has another schema.
    """
    while True:
        paths = run_manifest_files(lake)
        try:
            contents = read_manifest_columns(paths, RUNS, columns)
        except CorruptFile:
            if all(path.is_file() for path in paths):
                raise
            continue  # compaction removed a file after it was listed
        return pl.concat([RUNS.frame([]).select(columns), *(rows for _, rows in contents)])


def complete_manifests(lake: Location, chosen: Collection[str] | None = None) -> list[Manifest]:
    """The manifests of all or the chosen complete runs, of their analyses, and of profiles.

    Analyses of another version are left out. All profiles of the lake are included, because a
    profile belongs to no run.

    Raises:
        LakeError: no lake, or no such run.
        WrongFormat, CorruptFile: as `manifests.manifests`.
    """
    require_lake(lake)
    of_runs = manifests(lake, RUN_TABLES, chosen)
    complete = readable_run_ids(of_runs)
    for run_id in chosen or ():
        if run_id not in complete:
            count = len(run_ids(lake))
            raise LakeError(f"no complete run {run_id!r} in {lake}; it has {count} runs")
    return [
        *of_runs,
        *manifests(lake, ANALYSIS_TABLES, complete),
        *manifests(lake, PROFILE_TABLES),
    ]


def analysed_run_ids(lake: Location) -> set[str]:
    """The ids of the complete runs with an analysis of this version.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `complete_manifests`.
    """
    require_lake(lake)
    return set(readable_run_ids(manifests(lake, ANALYSIS_TABLES, run_ids(lake))))


def unanalysed_run_ids(lake: Location) -> list[str]:
    """The ids of the complete runs without an analysis of this version, sorted.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `complete_manifests`.
    """
    return sorted(set(run_ids(lake)) - analysed_run_ids(lake))


def read_table(lake: Location, name: str, run_ids: Collection[str] | None = None) -> pl.DataFrame:
    """The rows of one table over all complete runs, or over `run_ids`.

    Tables of profiles always have the rows of all profiles.

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
        (manifest, path)
        for manifest in complete_manifests(lake, run_ids)
        if (path := manifest.file(name)) is not None and manifest.run_ids
    ]
    fetched = prefetch_all([path for _, path in sources])
    for (manifest, _), path in zip(sources, fetched, strict=True):
        try:
            rows = parquet.read(path, table)
        except CorruptFile:
            if manifest.path.is_file():
                raise
            return read_table(lake, name, run_ids)  # compaction removed the file meanwhile
        frames.append(rows.filter(pl.col(table.owner_column).is_in(manifest.run_ids)))
    return pl.concat(frames)


def check_files(lake: Location, run_ids: Collection[str]) -> None:
    """Raise if a file of these runs or of their analyses is not as it was written.

    Raises:
        CorruptFile: a file is missing or has changed; the message names the remedy.
        LakeError, WrongFormat: as `complete_manifests`.
    """
    for manifest in complete_manifests(lake, run_ids):
        if not manifest.run_ids & frozenset(run_ids):
            continue
        try:
            problem = parquet.manifest_problem(prefetch(manifest.path))
            if problem:
                raise CorruptFile(f"{manifest.path}: {problem}")
            for file in manifest.files.values():
                file.verified_path(manifest.path)
        except CorruptFile as error:
            if manifest.path.is_file():
                raise CorruptFile(f"{error}; {repair_hint(manifest.path)}") from error
            check_files(lake, run_ids)  # compaction removed the file meanwhile
            return


def is_import(identity: str) -> bool:
    """Whether the identity (JSON) of a run belongs to imported results."""
    return bool(json.loads(identity).get("kind") == "import")


def is_sweep(identity: str) -> bool:
    """Whether the identity (JSON) of a run belongs to a sweep: not to a comparison or an import."""
    return "kind" not in json.loads(identity)


def check_format(lake: Location) -> None:
    """Raise unless every complete run can be opened and has this format version.

    Raises:
        LakeError: no such folder.
        WrongFormat: a run of another format version.
        CorruptFile: a `runs` file that cannot be opened.
    """
    require_lake(lake)
    manifests(lake, RUN_TABLES)


def require_lake(lake: Location) -> None:
    """Raise LakeError if there is no lake."""
    if not lake.is_dir():
        raise LakeError(f"no lake at {lake}; set PRUNELAKE_LAKE, or sweep into it first")
