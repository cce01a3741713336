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
    ANALYSIS_GROUP,
    PROFILE_GROUP,
    RUN_GROUP,
    SEGMENT_PREFIX,
    TableGroup,
    listed_path,
    manifests,
)
from prunelake.lake.objects import ObjectPath
from prunelake.lake.read import _table_file, check_format, has_run, require_lake
from prunelake.lake.storage import Location, delete, fsync, prefetch_all
from prunelake.schema.analysis_tables import ANALYSES
from prunelake.schema.profile_tables import PROFILE_SUBJECT, PROFILES
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
    manifests(lake, RUN_GROUP)


def write_run(lake: Location, run: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> bool:
    """Write one run, all or nothing; False, with nothing touched, if the lake has it already.

    `run` is the row of `runs` without `files`; `frames` has every other table, empty where the run
    has no such rows. An optional table may be left out, and has no file where it is empty. Files
    that an earlier, unfinished writer of this run left are replaced.

    Raises:
        LakeError: rows that are not of their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `check_format`; runs of two formats never share a lake.
    """
    run_id = _validate_entry(RUN_GROUP, run, frames)
    with _write_lock(lake, f"run {run_id}", "sweep again"):
        analysis = _table_file(lake, ANALYSES.name, run_id)
        lost = _etag(analysis)
        if has_run(lake, run_id):
            return False
        check_format(lake)
        # An analysis of a run that was lost says nothing of this one.
        if isinstance(analysis, Path):
            analysis.unlink(missing_ok=True)
        elif lost is not None:
            analysis.remove(lost)
        return _write_entry(lake, RUN_GROUP, run, frames)


def write_analysis(
    lake: Location, analysis: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write the analysis of one complete run, all or nothing, in place of an earlier one.

    `analysis` is the row of `analyses` without `files`; `frames` has every other derived table.

    Raises:
        LakeError: no such run, rows that are not of their table, or a folder that cannot be
            written.
    """
    run_id = _validate_entry(ANALYSIS_GROUP, analysis, frames)
    require_lake(lake)
    with _write_lock(lake, f"the analysis of run {run_id}", "run `prunelake analyse`"):
        if not has_run(lake, run_id):
            raise LakeError(f"no complete run {run_id!r} in {lake} to be analysed; sweep it first")
        if isinstance(lake, ObjectPath):
            _replace_analysis(lake, run_id, analysis, frames)
        else:
            _write_entry(lake, ANALYSIS_GROUP, analysis, frames)


def write_profile(
    lake: Location, profile: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write one profile, all or nothing; then remove earlier ones of the same `PROFILE_SUBJECT`.

    `profile` is the row of `profiles` without `files`, under an id that the lake has not; `frames`
    has every other table of a profile.

    Raises:
        LakeError: rows that are not of their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `check_format`, or a damaged profile.
    """
    profile_id = _validate_entry(PROFILE_GROUP, profile, frames)
    with _write_lock(lake, f"profile {profile_id}", "measure again"):
        check_format(lake)
        _write_entry(lake, PROFILE_GROUP, profile, frames)
        found = manifests(lake, PROFILE_GROUP)
        rows = parquet.read_columns([part.path for part in found], PROFILES, PROFILE_SUBJECT)
        for part, row in zip(found, rows, strict=True):
            is_same = row.row(0) == tuple(profile[name] for name in PROFILE_SUBJECT)
            if is_same and parquet.owner_id(part.path) != profile_id:
                files = [part.file(name) for name in part.files]
                delete(part.path)
                fsync(part.path.parent)
                for path in files:
                    if path is not None:
                        delete(path, missing_ok=True)


def _validate_entry(
    group: TableGroup, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> str:
    """The run, or profile, of a row and frames that can be written as they are."""
    head = group.manifest_table
    expected = set(head.schema) - {"files"}
    if set(row) != expected:
        raise LakeError(
            f"a row of {head.name} has exactly the columns of tables.{head.name.upper()} but "
            f"files; differing: {', '.join(sorted(expected ^ set(row)))}"
        )
    owner = str(row[head.owner_column])
    what = head.owner_column.removesuffix("_id")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", owner) or owner.startswith(SEGMENT_PREFIX):
        raise LakeError(
            f"{head.owner_column} {owner!r} is no file name of a {what}; use letters, digits, "
            "- and _, "
            f"and do not begin with {SEGMENT_PREFIX}"
        )
    _manifest_frame(head, row, [])
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


def _manifest_frame(
    head: Table, row: Mapping[str, Any], files: list[dict[str, Any]]
) -> pl.DataFrame:
    try:
        return head.frame([{**row, "files": files}])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"a row of {head.name} has a value of another type: {one_line(error)}"
        ) from error


def _write_entry(
    lake: Location, group: TableGroup, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> bool:
    """The files of one run, of which nothing is seen until the last one, its head, is there.

    False where somebody else has put it there.
    """
    owner = str(row[group.manifest_table.owner_column])
    head = _table_file(lake, group.manifest_table.name, owner)
    if isinstance(head, Path) and head.exists():
        head.unlink()
        fsync(head.parent)
    files = _write_data_files(lake, group, owner, frames)
    return parquet.create_manifest(
        head, group.manifest_table, _manifest_frame(group.manifest_table, row, files)
    )


def _write_data_files(
    lake: Location, group: TableGroup, owner: str, frames: Mapping[str, pl.DataFrame]
) -> list[dict[str, Any]]:
    """The files that a head lists, and what it lists of them."""
    files = []
    for name, table in group.tables.items():
        path = _table_file(lake, name, owner)
        if table is group.manifest_table:
            continue
        if table.is_optional and (name not in frames or frames[name].is_empty()):
            if isinstance(path, Path):
                path.unlink(missing_ok=True)
            continue
        digest = parquet.write_data(path, table, frames[name])
        files.append({"table": name, "rows": frames[name].height, "sha256": digest})
    return files


def _replace_analysis(
    lake: Location, run_id: str, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Put an analysis into an object store, where its readers see the old one or the new one."""
    head = _table_file(lake, ANALYSES.name, run_id)
    while True:
        (old,) = prefetch_all([head])
        assert isinstance(old, ObjectPath)
        files = _write_data_files(lake, ANALYSIS_GROUP, run_id, frames)
        if parquet.replace_manifest(
            head, ANALYSES, _manifest_frame(ANALYSES, row, files), old.etag
        ):
            break
    if old.etag is not None:
        left = set(_listed_files(old)).difference(_listed_files(head))
        for path in left:
            delete(path)


def _listed_files(head: Location) -> Iterator[Location]:
    """The files of one analysis; none where its head is damaged: they are left over then."""
    with suppress(CorruptFile):
        for entry in parquet.read_unchecked(head)["files"].explode().drop_nulls():
            yield listed_path(head, entry)


@contextmanager
def _write_lock(lake: Location, what: str, retry: str) -> Iterator[None]:
    try:
        with locked(lake):
            yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{what} could not be written to {lake}: {one_line(error)}; make room or fix the "
            f"permissions and {retry}"
        ) from error


def _etag(path: Location) -> str | None:
    """The tag of an object; None where there is none, and for this machine's files."""
    if isinstance(path, Path):
        return None
    try:
        return path.metadata()[0]
    except FileNotFoundError:
        return None
