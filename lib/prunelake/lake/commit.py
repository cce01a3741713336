"""Write runs, analyses and profiles to a lake, each completely or not at all.

Data files are written first, under names of their content. Then the manifest is created, on the
condition that it does not exist. So the first of many writers wins, and none can change or delete
the files of another. No lock is needed.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from prunelake.errors import LakeError, one_line
from prunelake.lake.files.entries import (
    commit_manifest,
    next_name,
    retire_manifest,
    retire_owners,
    write_files,
)
from prunelake.lake.files.manifests import (
    Manifest,
    Owner,
    check_one_format,
    commits_of,
    entry_name,
    read_group,
)
from prunelake.lake.files.paths import SEGMENT_PREFIX
from prunelake.lake.files.row_checks import row_problems, schema_problem
from prunelake.lake.files.write_errors import write_errors
from prunelake.lake.read import (
    complete_runs,
    has_run,
    read_content,
    read_table,
    require_lake,
    run_commit,
)
from prunelake.lake.storage.location import Location, storage_clock
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_SUBJECT, PROFILE_TABLES, PROFILES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import Table, TableGroup

Analyse = Callable[[Location, str], None]
"""A function that computes the analysis of one run of a lake and writes it there."""


def check_writable(lake: Location) -> None:
    """Raise unless a run can be written to the lake; called before a run is computed.

    Raises:
        LakeError: a folder that cannot be created or written.
        WrongFormat: a run of another format version.
    """
    try:
        storage_clock(lake)
    except OSError as error:
        raise LakeError(
            f"lake {lake} cannot be written ({one_line(error)}); fix the permissions or choose "
            "another folder"
        ) from error
    complete_runs(lake)


def write_run(lake: Location, run: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> bool:
    """Write one run. Returns False and changes nothing if the lake has the run already.

    `run` is the row of `runs`. `frames` has every other table of a run; a table without rows is
    empty, and optional tables may be missing.

    Raises:
        LakeError: rows that do not fit their table, or a folder that cannot be written.
        WrongFormat: as `check_writable`; a lake holds one format only.
        CorruptFile: the lake has the run, and a file of it is damaged.
    """
    run_id, rows = _check_rows(RUN_TABLES, run, frames)
    with write_errors(f"run {run_id} could not be written to {lake}", "sweep again"):
        check_one_format(lake, RUN_TABLES)
        if has_run(lake, run_id):
            return False
        return _commit(lake, RUN_TABLES, run_id, rows)


def write_analysis(
    lake: Location, analysis: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> bool:
    """Write the analysis of one complete run; False if it has one of this version already.

    `analysis` is the row of `analyses`; `frames` has the other analysis tables. A damaged analysis
    is replaced.

    Raises:
        LakeError: no such run, rows that do not fit their table, or a folder that cannot be
            written.
    """
    run_id, rows = _check_rows(ANALYSIS_TABLES, analysis, frames)
    require_lake(lake)
    failure = f"the analysis of run {run_id} could not be written to {lake}"
    with write_errors(failure, "run `prunelake analyse`"):
        commit = run_commit(lake, run_id)
        if commit is None:
            raise LakeError(f"no complete run {run_id!r} in {lake} to be analysed; sweep it first")
        version = analysis["analysis_version"]
        if _has_analysis(lake, run_id, version):
            return False
        entry = entry_name(ANALYSIS_TABLES, run_id, commit, version)
        return _commit(lake, ANALYSIS_TABLES, entry, rows, commit, version)


def write_profile(
    lake: Location, profile: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> None:
    """Write one profile, then retire older profiles with the same `PROFILE_SUBJECT`.

    `profile` is the row of `profiles`, under an id that the lake does not have yet; `frames` has
    the other tables of a profile.

    Raises:
        LakeError: rows that do not fit their table, or a folder that cannot be written.
        WrongFormat: as `check_writable`.
    """
    profile_id, rows = _check_rows(PROFILE_TABLES, profile, frames)
    with write_errors(f"profile {profile_id} could not be written to {lake}", "measure again"):
        _commit(lake, PROFILE_TABLES, profile_id, rows)
        same_subject = [pl.col(name).eq_missing(profile[name]) for name in PROFILE_SUBJECT]
        same = read_table(lake, PROFILES.name).filter(same_subject)["profile_id"]
        retire_owners(lake, PROFILE_TABLES, {*same} - {profile_id})


def _check_rows(
    group: TableGroup, row: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]
) -> tuple[str, list[tuple[Table, pl.DataFrame]]]:
    """The id of a run or profile, and its rows by table.

    The owner table is last: its file shows that all others exist.
    """
    owner = group.owner_table
    if set(row) != set(owner.schema):
        raise LakeError(
            f"a row of {owner.name} needs exactly the columns of that table; differing: "
            f"{', '.join(sorted(set(owner.schema) ^ set(row)))}"
        )
    owner_id, kind = str(row[group.owner_column]), owner.owner_kind
    if not re.fullmatch(r"[A-Za-z0-9_-]+", owner_id) or owner_id.startswith(SEGMENT_PREFIX):
        raise LakeError(
            f"{group.owner_column} {owner_id!r} cannot be the file name of a {kind}; use letters, "
            f"digits, - and _, and do not begin with {SEGMENT_PREFIX}"
        )
    try:
        owner_frame = owner.frame([dict(row)])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"a row of {owner.name} has a value of another type: {one_line(error)}"
        ) from error
    others = [table for table in group.values() if table is not owner]
    required = {table.name for table in others if not table.is_optional}
    differing = (required - set(frames)) | (set(frames) - {table.name for table in others})
    if differing:
        raise LakeError(
            f"a row of {owner.name} needs a frame, possibly empty, for each of "
            f"{', '.join(sorted(required))}; differing: {', '.join(sorted(differing))}"
        )
    rows = [(table, frames[table.name]) for table in others if table.name in frames]
    for table, frame in rows:
        problem = schema_problem(frame, table) or next(row_problems(frame, table, [owner_id]), None)
        if problem:
            raise LakeError(f"table {table.name} of {kind} {owner_id}: {problem}")
    return owner_id, [*rows, (owner, owner_frame)]


def _commit(
    lake: Location,
    group: TableGroup,
    entry: str,
    frames: list[tuple[Table, pl.DataFrame]],
    run_commit: str | None = None,
    analysis_version: int | None = None,
) -> bool:
    """Write the data files and then their manifest; False if another writer was first.

    If garbage collection took this writer for dead and deleted its files, they are written again,
    as the next generation.
    """
    table, owner_frame = frames[-1]
    owner_id = owner_frame[group.owner_column].item()
    while (name := next_name(lake, group, entry)) is not None:
        files = write_files(lake, name, frames)
        owner = Owner(
            commit=run_commit or files[table.name].sha256[:16],
            generation=name.generation,
            rows={each: listed.rows for each, listed in files.items()},
        )
        content = Manifest(analysis_version=analysis_version, owners={owner_id: owner}, files=files)
        if commit_manifest(lake, group, name, content):
            # While this process slept, others may have committed, merged or retired the run, and
            # removed its manifest.
            if name.retired_mark(lake / group.owner_table.name).is_file():
                continue
            commits = None if run_commit is None else {owner_id: run_commit}
            visible = commits_of(read_group(lake, group, [owner_id]).select([owner_id], commits))
            return visible.get(owner_id, owner.commit) == owner.commit
    return False


def _has_analysis(lake: Location, run_id: str, version: int) -> bool:
    """Whether a run has an undamaged analysis. A damaged one is retired, so that it is replaced."""
    content = read_content(lake, [run_id])
    for manifest in content.analyses:
        if run_id in manifest.run_ids and manifest.content.analysis_version == version:
            return True
    for damage in content.damaged:
        if damage.group is ANALYSIS_TABLES and run_id in damage.owners:
            retire_manifest(lake, ANALYSIS_TABLES, damage.manifest)
    return False
