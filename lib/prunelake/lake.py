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

import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from prunelake import parquet
from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.locks import locked
from prunelake.objects import ObjectPath
from prunelake.parts import (
    ANALYSED,
    MEASURED,
    PROFILED,
    SEGMENT,
    Group,
    Part,
    heads,
    listed_file,
    parts,
    runs_of,
)
from prunelake.storage import Location, delete, fetched, sync
from prunelake.tables import ANALYSES, EVERY, PROFILES, RUNS, SUBJECT, Table


def has_run(lake: Location, run_id: str) -> bool:
    """Whether the lake holds this run, complete."""
    return _file(lake, RUNS.name, run_id).is_file() or run_id in run_ids(lake)


def run_ids(lake: Location) -> list[str]:
    """The complete runs, sorted; none where there is no lake yet."""
    loose, segments = heads(lake, MEASURED)
    rows = parquet.read_columns(segments, RUNS, ["run_id"])
    return sorted({parquet.owner(p) for p in loose}.union(*(frame["run_id"] for frame in rows)))


def profile_ids(lake: Location) -> list[str]:
    """The complete profiles, sorted; none where there is no lake yet."""
    loose, _ = heads(lake, PROFILED)
    return [parquet.owner(path) for path in loose]


def heads_of_runs(lake: Location) -> list[Location]:
    """The files whose names change whenever a run is added."""
    return [path for found in heads(lake, MEASURED) for path in found]


def run_columns(lake: Location, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of `runs` over all complete runs, and no other file opened.

    A run that a compaction is just moving may be there twice. None where there is no lake yet.

    Raises:
        CorruptFile: a `runs` file that cannot be read or has another schema.
    """
    while True:
        paths = heads_of_runs(lake)
        try:
            rows = parquet.read_columns(paths, RUNS, columns)
        except CorruptFile:
            if all(path.is_file() for path in paths):
                raise
            continue  # a compaction has taken it
        return pl.concat([RUNS.frame([]).select(columns), *rows])


def complete_parts(lake: Location, chosen: Collection[str] | None = None) -> list[Part]:
    """The parts with all complete runs, or the chosen ones, their current analyses, and profiles.

    The profiles are all of the lake, for they are of no run.

    Raises:
        LakeError: no lake, or no such run.
        WrongFormat, CorruptFile: as `parts`.
    """
    require(lake)
    measured = parts(lake, MEASURED, chosen)
    complete = runs_of(measured)
    for run_id in chosen or ():
        if run_id not in complete:
            count = len(run_ids(lake))
            raise LakeError(f"no complete run {run_id!r} in {lake}; it has {count} runs")
    return [*measured, *parts(lake, ANALYSED, frozenset(complete)), *parts(lake, PROFILED)]


def analysed(lake: Location) -> set[str]:
    """The complete runs with an analysis of this version.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `complete_parts`.
    """
    require(lake)
    return set(runs_of(parts(lake, ANALYSED, run_ids(lake))))


def unanalysed(lake: Location) -> list[str]:
    """The complete runs without an analysis of this version, sorted.

    Raises:
        LakeError, WrongFormat, CorruptFile: as `complete_parts`.
    """
    return sorted(set(run_ids(lake)) - analysed(lake))


def read_table(lake: Location, name: str, run_ids: Collection[str] | None = None) -> pl.DataFrame:
    """The rows of one table over all complete runs, or over those of `run_ids`.

    Those of a table of profiles are of all profiles.

    Raises:
        LakeError: no lake, no such table, or no such run.
        WrongFormat: a run of another format version.
        CorruptFile: a file that cannot be read or has another schema.
    """
    table = EVERY.get(name)
    if table is None:
        raise LakeError(f"no table {name!r}; the lake has {', '.join(EVERY)}")
    frames = [table.frame([])]
    sources = [
        (part, path)
        for part in complete_parts(lake, run_ids)
        if (path := part.file(name)) is not None and part.run_ids
    ]
    for (part, _), path in zip(sources, fetched([path for _, path in sources]), strict=True):
        try:
            rows = parquet.read(path, table)
        except CorruptFile:
            if part.head.is_file():
                raise
            return read_table(lake, name, run_ids)  # a compaction has taken it
        frames.append(rows.filter(pl.col(table.owner).is_in(part.run_ids)))
    return pl.concat(frames)


def check_format(lake: Location) -> None:
    """Raise unless every complete run opens and is of this format version.

    Raises:
        LakeError: no such folder.
        WrongFormat: a run of another format version, or of none.
        CorruptFile: a `runs` file that does not open as Parquet.
    """
    require(lake)
    parts(lake, MEASURED)


def check_writable(lake: Location) -> None:
    """Raise unless a run can be written there; to be asked before the work that makes one.

    Raises:
        LakeError: a folder that cannot be made or written.
        WrongFormat, CorruptFile: as `check_format`.
    """
    try:
        if isinstance(lake, ObjectPath):
            probe = lake / ".probe"
            probe.put(b"")
            probe.remove()
        else:
            lake.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=lake):
                pass
    except OSError as error:
        raise LakeError(
            f"lake {lake} cannot be written ({one_line(error)}); fix the permissions or choose "
            "another folder"
        ) from error
    parts(lake, MEASURED)


def write_run(lake: Location, run: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> bool:
    """Write one run, all or nothing; False, with nothing touched, if the lake has it already.

    `run` is the row of `runs` without `files`; `frames` has every other table, empty where the run
    has no such rows. An optional table may be left out, and has no file where it is empty. Files
    that an earlier, unfinished writer of this run left are replaced.

    Raises:
        LakeError: rows that are not of their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `check_format`; runs of two formats never share a lake.
    """
    run_id = _check(MEASURED, run, frames)
    with _writing(lake, f"run {run_id}", "sweep again"):
        analysis = _file(lake, ANALYSES.name, run_id)
        lost = _tag(analysis)
        if has_run(lake, run_id):
            return False
        check_format(lake)
        # An analysis of a run that was lost says nothing of this one.
        if isinstance(analysis, Path):
            analysis.unlink(missing_ok=True)
        elif lost is not None:
            analysis.remove(lost)
        return _write(lake, MEASURED, run, frames)


def write_analysis(
    lake: Location, analysis: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write the analysis of one complete run, all or nothing, in place of an earlier one.

    `analysis` is the row of `analyses` without `files`; `frames` has every other derived table.

    Raises:
        LakeError: no such run, rows that are not of their table, or a folder that cannot be
            written.
    """
    run_id = _check(ANALYSED, analysis, frames)
    require(lake)
    with _writing(lake, f"the analysis of run {run_id}", "run `prunelake analyse`"):
        if not has_run(lake, run_id):
            raise LakeError(f"no complete run {run_id!r} in {lake} to be analysed; sweep it first")
        if isinstance(lake, ObjectPath):
            _replace(lake, run_id, analysis, frames)
        else:
            _write(lake, ANALYSED, analysis, frames)


def write_profile(
    lake: Location, profile: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write one profile, all or nothing, and then remove earlier ones of the same `SUBJECT`.

    `profile` is the row of `profiles` without `files`, under an id that the lake has not; `frames`
    has every other table of a profile.

    Raises:
        LakeError: rows that are not of their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `check_format`, or a damaged profile.
    """
    profile_id = _check(PROFILED, profile, frames)
    with _writing(lake, f"profile {profile_id}", "measure again"):
        check_format(lake)
        _write(lake, PROFILED, profile, frames)
        found = parts(lake, PROFILED)
        rows = parquet.read_columns([part.head for part in found], PROFILES, SUBJECT)
        for part, row in zip(found, rows, strict=True):
            is_same = row.row(0) == tuple(profile[name] for name in SUBJECT)
            if is_same and parquet.owner(part.head) != profile_id:
                files = [part.file(name) for name in part.listed]
                delete(part.head)
                sync(part.head.parent)
                for path in files:
                    if path is not None:
                        delete(path, missing_ok=True)


def require(lake: Location) -> None:
    """Raise LakeError where there is no lake."""
    if not lake.is_dir():
        raise LakeError(f"no lake at {lake}; set PRUNELAKE_LAKE, or sweep into it first")


def _check(group: Group, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> str:
    """The run, or profile, of a row and frames that can be written as they are."""
    head = group.head
    expected = set(head.schema) - {"files"}
    if set(row) != expected:
        raise LakeError(
            f"a row of {head.name} has exactly the columns of tables.{head.name.upper()} but "
            f"files; differing: {', '.join(sorted(expected ^ set(row)))}"
        )
    owner = str(row[head.owner])
    what = head.owner.removesuffix("_id")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", owner) or owner.startswith(SEGMENT):
        raise LakeError(
            f"{head.owner} {owner!r} is no file name of a {what}; use letters, digits, - and _, "
            f"and do not begin with {SEGMENT}"
        )
    _head_frame(head, row, [])
    known = group.tables.keys() - {head.name}
    needed = {name for name in known if not group.tables[name].is_optional}
    if not needed <= set(frames) <= known:
        raise LakeError(
            f"a row of {head.name} has a frame, perhaps empty, for each of "
            f"{', '.join(sorted(needed))}; differing: "
            f"{', '.join(sorted((needed - set(frames)) | (set(frames) - known)))}"
        )
    for name, frame in frames.items():
        table = group.tables[name]
        problem = parquet.schema_problem(frame, table)
        problem = problem or next(parquet.content_problems(frame, table, [owner]), None)
        if problem:
            raise LakeError(f"table {name} of {what} {owner}: {problem}")
    return owner


def _head_frame(head: Table, row: Mapping[str, Any], files: list[dict[str, Any]]) -> pl.DataFrame:
    try:
        return head.frame([{**row, "files": files}])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"a row of {head.name} has a value of another type: {one_line(error)}"
        ) from error


def _write(
    lake: Location, group: Group, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> bool:
    """The files of one run, of which nothing is seen until the last one, its head, is there.

    False where somebody else has put it there.
    """
    owner = str(row[group.head.owner])
    head = _file(lake, group.head.name, owner)
    if isinstance(head, Path) and head.exists():
        head.unlink()
        sync(head.parent)
    files = _write_data(lake, group, owner, frames)
    return parquet.create_head(head, group.head, _head_frame(group.head, row, files))


def _write_data(
    lake: Location, group: Group, owner: str, frames: Mapping[str, pl.DataFrame]
) -> list[dict[str, Any]]:
    """The files that a head lists, and what it lists of them."""
    files = []
    for name, table in group.tables.items():
        path = _file(lake, name, owner)
        if table is group.head:
            continue
        if table.is_optional and (name not in frames or frames[name].is_empty()):
            if isinstance(path, Path):
                path.unlink(missing_ok=True)
            continue
        digest = parquet.write_data(path, table, frames[name])
        files.append({"table": name, "rows": frames[name].height, "sha256": digest})
    return files


def _replace(
    lake: Location, run_id: str, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Put an analysis into an object store, where its readers see the old one or the new one."""
    head = _file(lake, ANALYSES.name, run_id)
    while True:
        (old,) = fetched([head])
        assert isinstance(old, ObjectPath)
        files = _write_data(lake, ANALYSED, run_id, frames)
        if parquet.replace_head(head, ANALYSES, _head_frame(ANALYSES, row, files), old.etag):
            break
    if old.etag is not None:
        left = set(_listed(old)).difference(_listed(head))
        for path in left:
            delete(path)


def _listed(head: Location) -> Iterator[Location]:
    """The files of one analysis; none where its head is damaged: they are left over then."""
    with suppress(CorruptFile):
        for entry in parquet.stored(head)["files"].explode().drop_nulls():
            yield listed_file(head, entry)


@contextmanager
def _writing(lake: Location, what: str, retry: str) -> Iterator[None]:
    try:
        with locked(lake):
            yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{what} could not be written to {lake}: {one_line(error)}; make room or fix the "
            f"permissions and {retry}"
        ) from error


def _tag(path: Location) -> str | None:
    """The tag of an object; None where there is none, and for this machine's files."""
    if isinstance(path, Path):
        return None
    try:
        return path.metadata()[0]
    except FileNotFoundError:
        return None


def _file(lake: Location, table: str, owner: str) -> Location:
    return lake / table / f"{owner}.parquet"
