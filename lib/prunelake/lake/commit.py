"""Write runs, analyses and profiles to the lake: all of one or nothing of it."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake import parquet
from prunelake.lake.locks import locked
from prunelake.lake.manifests import (
    ANALYSED,
    MEASURED,
    PROFILED,
    SEGMENT,
    Group,
    listed_file,
    parts,
)
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import _file, check_format, has_run, require
from prunelake.lake.storage import Location, delete, fetched, sync
from prunelake.schema.analysis_tables import ANALYSES
from prunelake.schema.profile_tables import PROFILES, SUBJECT
from prunelake.schema.table import Table


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
