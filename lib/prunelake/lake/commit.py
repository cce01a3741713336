"""Write runs, analyses and profiles to a lake, each completely or not at all."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake.files import parquet
from prunelake.lake.files.manifest_files import (
    ListedFile,
    create_manifest,
    listed_files_as_rows,
    parse_listed_files,
    replace_manifest,
    write_data_file,
)
from prunelake.lake.files.manifests import manifests
from prunelake.lake.files.paths import SEGMENT_PREFIX, owner_id, table_file
from prunelake.lake.files.row_checks import row_problems, schema_problem
from prunelake.lake.read import check_format, has_run, require_lake
from prunelake.lake.storage.location import Location, delete, fsync, prefetch
from prunelake.lake.storage.locks import locked
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.analysis_tables import ANALYSES, ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_SUBJECT, PROFILE_TABLES, PROFILES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table, TableGroup

Analyse = Callable[[Location, str], None]
"""A function that computes the analysis of one run of a lake and writes it there."""


def check_writable(lake: Location) -> None:
    """Raise unless a run can be written to the lake; called before a run is computed.

    Raises:
        LakeError: a folder that cannot be created or written.
        WrongFormat, CorruptFile: as `read.check_format`.
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
    manifests(lake, RUN_TABLES)


def write_run(lake: Location, run: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> bool:
    """Write one run. Returns False and changes nothing if the lake has the run already.

    `run` is the row of `runs` without `files`. `frames` has every other table of a run; a table
    without rows is empty, and optional tables may be missing. Unfinished files of an earlier writer
    of this run are replaced.

    Raises:
        LakeError: rows that do not fit their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `read.check_format`; a lake holds one format only.
    """
    run_id = _validate_entry(RUN_TABLES, run, frames)
    with _write_lock(lake, f"run {run_id}", "sweep again"):
        stale_analysis = table_file(lake, ANALYSES.name, run_id)
        stale_etag = _etag(stale_analysis)
        if has_run(lake, run_id):
            return False
        check_format(lake)
        # An analysis of a lost run does not describe this run.
        if isinstance(stale_analysis, Path):
            stale_analysis.unlink(missing_ok=True)
        elif stale_etag is not None:
            stale_analysis.remove(stale_etag)
        return _write_entry(lake, RUN_TABLES, run, frames)


def write_analysis(
    lake: Location, analysis: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write the analysis of one complete run, replacing an earlier analysis.

    `analysis` is the row of `analyses` without `files`; `frames` has the other analysis tables.

    Raises:
        LakeError: no such run, rows that do not fit their table, or a folder that cannot be
            written.
    """
    run_id = _validate_entry(ANALYSIS_TABLES, analysis, frames)
    require_lake(lake)
    with _write_lock(lake, f"the analysis of run {run_id}", "run `prunelake analyse`"):
        if not has_run(lake, run_id):
            raise LakeError(f"no complete run {run_id!r} in {lake} to be analysed; sweep it first")
        if isinstance(lake, ObjectPath):
            _replace_analysis(lake, run_id, analysis, frames)
        else:
            _write_entry(lake, ANALYSIS_TABLES, analysis, frames)


def write_profile(
    lake: Location, profile: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write one profile, then remove older profiles with the same `PROFILE_SUBJECT`.

    `profile` is the row of `profiles` without `files`, under an id that the lake does not have yet;
    `frames` has the other tables of a profile.

    Raises:
        LakeError: rows that do not fit their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `read.check_format`, or a damaged profile.
    """
    profile_id = _validate_entry(PROFILE_TABLES, profile, frames)
    with _write_lock(lake, f"profile {profile_id}", "measure again"):
        check_format(lake)
        _write_entry(lake, PROFILE_TABLES, profile, frames)
        stored = manifests(lake, PROFILE_TABLES)
        subjects = parquet.read_columns([m.path for m in stored], PROFILES, PROFILE_SUBJECT)
        for manifest, subject in zip(stored, subjects, strict=True):
            agrees = subject.row(0) == tuple(profile[column] for column in PROFILE_SUBJECT)
            if agrees and owner_id(manifest.path) != profile_id:
                # The manifest goes first, so that no reader sees a profile without its files.
                delete(manifest.path)
                fsync(manifest.path.parent)
                for file in manifest.files.values():
                    delete(file.path(manifest.path), missing_ok=True)


def _validate_entry(
    group: TableGroup, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> str:
    """Check the row of a manifest table and its frames; return the id of the run or profile."""
    manifest_table = group.manifest_table
    columns = set(manifest_table.schema) - {"files"}
    if set(row) != columns:
        raise LakeError(
            f"a row of {manifest_table.name} needs exactly the columns of that table without "
            f"`files`; differing: {', '.join(sorted(columns ^ set(row)))}"
        )
    owner, kind = str(row[group.owner_column]), manifest_table.owner_kind
    if not re.fullmatch(r"[A-Za-z0-9_-]+", owner) or owner.startswith(SEGMENT_PREFIX):
        raise LakeError(
            f"{group.owner_column} {owner!r} cannot be the file name of a {kind}; use letters, "
            f"digits, - and _, and do not begin with {SEGMENT_PREFIX}"
        )
    _manifest_frame(manifest_table, row, [])
    names = {table.name for table in group.data_tables}
    required = {table.name for table in group.data_tables if not table.is_optional}
    if not required <= set(frames) <= names:
        differing = (required - set(frames)) | (set(frames) - names)
        raise LakeError(
            f"a row of {manifest_table.name} needs a frame, possibly empty, for each of "
            f"{', '.join(sorted(required))}; differing: {', '.join(sorted(differing))}"
        )
    for name, frame in frames.items():
        problem = schema_problem(frame, group[name])
        problem = problem or next(row_problems(frame, group[name], [owner]), None)
        if problem:
            raise LakeError(f"table {name} of {kind} {owner}: {problem}")
    return owner


def _manifest_frame(
    table: Table, row: Mapping[str, Any], files: Sequence[ListedFile]
) -> pl.DataFrame:
    try:
        return table.frame([{**row, "files": listed_files_as_rows(files)}])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"a row of {table.name} has a value of another type: {one_line(error)}"
        ) from error


def _write_entry(
    lake: Location, group: TableGroup, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> bool:
    """Write the data files and then their manifest; False if a store already has the manifest."""
    table, owner = group.manifest_table, str(row[group.owner_column])
    path = table_file(lake, table.name, owner)
    if isinstance(path, Path) and path.exists():
        path.unlink()
        fsync(path.parent)
    files = _write_data_files(lake, group, owner, frames)
    return create_manifest(path, table, _manifest_frame(table, row, files))


def _write_data_files(
    lake: Location, group: TableGroup, owner: str, frames: Mapping[str, pl.DataFrame]
) -> list[ListedFile]:
    files = []
    for table in group.data_tables:
        frame = frames.get(table.name)
        if frame is None or (table.is_optional and frame.is_empty()):
            unfinished = table_file(lake, table.name, owner)
            if isinstance(unfinished, Path):
                unfinished.unlink(missing_ok=True)
            continue
        files.append(write_data_file(lake, table, owner, frame))
    return files


def _replace_analysis(
    lake: Location, run_id: str, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Replace an analysis in a store; readers see either the old analysis or the new one."""
    path = table_file(lake, ANALYSES.name, run_id)
    while True:
        old = prefetch(path)
        assert isinstance(old, ObjectPath)
        files = _write_data_files(lake, ANALYSIS_TABLES, run_id, frames)
        if replace_manifest(path, ANALYSES, _manifest_frame(ANALYSES, row, files), old.etag):
            break
    if old.etag is not None:
        for unlisted in set(_listed_paths(old)).difference(_listed_paths(path)):
            delete(unlisted)


def _listed_paths(manifest: Location) -> Iterator[Location]:
    """The data files of one analysis; none if its manifest is damaged: they are then leftovers."""
    with suppress(CorruptFile):
        for entries in parquet.read(manifest, ANALYSES)["files"].drop_nulls():
            for file in parse_listed_files(entries):
                yield file.path(manifest)


@contextmanager
def _write_lock(lake: Location, content: str, retry: str) -> Iterator[None]:
    try:
        with locked(lake):
            yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"{content} could not be written to {lake}: {one_line(error)}; make room or fix the "
            f"permissions and {retry}"
        ) from error


def _etag(path: Location) -> str | None:
    """The tag of an object; None for local files, and if there is no such object."""
    if isinstance(path, Path):
        return None
    try:
        return path.metadata()[0]
    except FileNotFoundError:
        return None
