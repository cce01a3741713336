"""Bring a lake of an older format version to this one, each run whole or not at all.

The runs of an old head file are written as a segment of this version, whose head file comes last;
then the old head goes, and the files that it listed. Killed at any moment the lake has every run,
old or new, and the next migration finishes. Analyses are not migrated but computed again; profiles
are not older than format 1.

A run keeps its id and its identity: the format version in there is that of the code which computed
its numbers, and remains true. A sweep of the same spec by this version is another run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from prunelake.errors import CorruptFile, WrongFormat
from prunelake.lake import parquet
from prunelake.lake.compact import write_segment
from prunelake.lake.manifests import ANALYSED, MEASURED, heads, is_segment, listed_by, segment_name
from prunelake.lake.read import unanalysed
from prunelake.lake.repair import alone
from prunelake.lake.storage import Location, delete, sync
from prunelake.schema.analysis_tables import DERIVED
from prunelake.schema.run_tables import RUNS, TABLES
from prunelake.schema.table import FORMAT_VERSION, Table

Frames = Mapping[str, pl.DataFrame]
Step = Callable[[Frames], Frames]

STEPS: Mapping[int, Step] = {}
"""From each older version the step to the next one: from the frames of one run, by table and with
its row of `runs`, to those of the next version. `files` of that row is filled in afterwards. Empty
as long as FORMAT_VERSION is 1, the first."""


def migrate(lake: Location) -> list[str]:
    """Bring every run to this format version, and say in a line each what was done.

    Analyses that an older version wrote, or that lack a table of this one, are computed again.

    Raises:
        LakeError: no such folder, one that cannot be written, or a writer at work.
        WrongFormat: a run of a newer format version, or of one that no step leads from; nothing
            was changed then.
        CorruptFile: an old run that is not what was written; it stays as it is.
    """
    from prunelake.analysis.analyse import analyse

    with alone(lake):
        old = {path: _version(path) for paths in heads(lake, MEASURED) for path in paths}
        old = {path: version for path, version in old.items() if version != FORMAT_VERSION}
        done = [line for path, version in old.items() for line in _migrate(lake, path, version)]
        for paths in heads(lake, ANALYSED):
            for path in paths:
                if _is_outdated(path):
                    _remove(path, _listed(path))
    for run_id in unanalysed(lake):
        analyse(lake, run_id)
        done.append(f"analysed run {run_id}")
    return done


def _version(head: Location) -> int:
    version = parquet.format_of(head)
    if version is None or version > FORMAT_VERSION:
        parquet.metadata(head)  # which says what would do
    assert version is not None
    for number in range(version, FORMAT_VERSION):
        if number not in STEPS:
            raise WrongFormat(
                f"{head} is of format {version}, and no step leads from format {number} to "
                f"{number + 1}; use the version that wrote it, or another lake folder and sweep "
                "again"
            )
    return version


def _migrate(lake: Location, head: Location, version: int) -> list[str]:
    listed = _listed(head)
    stored = {RUNS.name: parquet.stored(head)}
    for name, digest in listed.items():
        path = parquet.data_file(lake / name / head.name, digest)
        if not path.is_file() or parquet.sha256(path) != digest:
            raise CorruptFile(f"{path} is not what was written; {parquet.remedy(path)}")
        stored[name] = parquet.stored(path)
    runs = []
    for run_id in stored[RUNS.name]["run_id"].sort():
        frames: Frames = {
            name: frame.filter(pl.col("run_id") == run_id) for name, frame in stored.items()
        }
        for number in range(version, FORMAT_VERSION):
            frames = STEPS[number](frames)
        runs.append(_current(run_id, frames))

    def merged(table: Table) -> pl.DataFrame:
        return pl.concat([frames[table.name] for frames in runs])

    if segment_name(merged(RUNS)) == parquet.owner(head):
        # The new segment would be the old one, and go with it.
        raise CorruptFile(f"{head} says format {version}, but lists files of {FORMAT_VERSION}")
    write_segment(lake, MEASURED, merged)
    _remove(head, listed)
    return [
        f"migrated run {frames[RUNS.name]['run_id'].item()} from format {version} to "
        f"{FORMAT_VERSION}"
        for frames in runs
    ]


def _current(run_id: str, frames: Frames) -> Frames:
    """Every table of one run, as it would be written by this version."""
    found = {name: frames.get(name, table.frame([])) for name, table in TABLES.items()}
    files = [
        {"table": name, "rows": frame.height, "sha256": parquet.digest(TABLES[name], frame)}
        for name, frame in found.items()
        if name != RUNS.name and not (TABLES[name].is_optional and frame.is_empty())
    ]
    listed = pl.Series("files", [files], RUNS.schema["files"])
    found[RUNS.name] = found[RUNS.name].with_columns(listed)
    for name, frame in found.items():
        problem = parquet.schema_problem(frame, TABLES[name])
        problem = problem or next(parquet.content_problems(frame, TABLES[name], [run_id]), None)
        if problem:
            raise CorruptFile(f"run {run_id}, migrated, has a table {name} with {problem}")
    return found


def _is_outdated(head: Location) -> bool:
    """Whether an analysis is of an older format, or from before one of its tables had its name."""
    version = parquet.format_of(head)
    if version is not None and version > FORMAT_VERSION:
        parquet.metadata(head)
    needed = {name for name, table in DERIVED.items() if not table.is_optional}
    return version != FORMAT_VERSION or not needed <= {*_listed(head), head.parent.name}


def _listed(head: Location) -> dict[str, str]:
    """The SHA-256 of the other files of a head, by table."""
    if is_segment(head):
        entries = listed_by(parquet.says(head))
    else:
        rows = parquet.stored(head)
        entries = rows["files"].item() if rows.height == 1 else None
    if entries is None:
        raise CorruptFile(f"{head} does not list its files; {parquet.remedy(head)}")
    return {entry["table"]: entry["sha256"] for entry in entries}


def _remove(head: Location, listed: Mapping[str, str]) -> None:
    """Remove a head, then the files that it listed, and folders of tables that are no more."""
    delete(head)
    sync(head.parent)
    for name, digest in listed.items():
        folder = head.parent.parent / name
        delete(parquet.data_file(folder / head.name, digest), missing_ok=True)
        is_known = name in TABLES or name in DERIVED
        if isinstance(folder, Path) and not is_known and not any(folder.iterdir()):
            folder.rmdir()
