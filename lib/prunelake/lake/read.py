"""Read a lake: its complete runs, their analyses, and the rows of its tables."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.errors import CorruptFile, LakeError
from prunelake.lake.files import parquet
from prunelake.lake.files.findings import finding_of
from prunelake.lake.files.listed_file import ListedFile
from prunelake.lake.files.manifests import (
    Damage,
    GroupManifests,
    StoredManifest,
    commits_of,
    listed_files,
    read_group,
    readable_run_ids,
)
from prunelake.lake.files.verified import VerifiedFiles, verified_files
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import Table, TableGroup
from prunelake.schema.tables import ALL_TABLES


@dataclass(frozen=True)
class LakeContent:
    """The complete runs of a lake, their analyses, its profiles, and all damaged files.

    A damaged file hides its run, or its analysis. Everything else can be read.
    """

    runs: list[StoredManifest]
    analyses: list[StoredManifest]
    profiles: list[StoredManifest]
    damaged: list[Damage]

    @property
    def manifests(self) -> list[StoredManifest]:
        """The manifests from which readers take rows."""
        return [
            manifest
            for manifest in (*self.runs, *self.analyses, *self.profiles)
            if manifest.run_ids
        ]

    def group(self, group: TableGroup) -> list[StoredManifest]:
        """The undamaged manifests of a group, also those from which readers take no rows."""
        if group is RUN_TABLES:
            return self.runs
        return self.analyses if group is ANALYSIS_TABLES else self.profiles

    @property
    def listed(self) -> dict[Location, ListedFile]:
        """Every data file from which readers take rows."""
        return {path: listed for each in self.manifests for _, path, listed in listed_files(each)}

    def files(self, table: Table) -> list[tuple[Location, StoredManifest]]:
        """The files with rows of a table, and their manifests."""
        return [
            (path, manifest)
            for manifest in self.manifests
            if (path := manifest.file(table.name)) is not None
        ]


def read_content(lake: Location, run_ids: Collection[str] | None = None) -> LakeContent:
    """The undamaged content of a lake; with `run_ids` only these runs, and all profiles.

    Every data file is compared with its hash, once.

    Raises:
        LakeError: no lake.
        WrongFormat: a run of another format version.
    """
    require_lake(lake)
    content = _read_once(lake, run_ids)
    if any(
        not damage.manifest.manifest(lake / damage.group.owner_table.name).is_file()
        for damage in content.damaged
    ):
        # Garbage collection or `doctor` removed the files while they were read.
        content = _read_once(lake, run_ids)
    return content


def _read_once(lake: Location, run_ids: Collection[str] | None) -> LakeContent:
    with verified_files(lake) as verified:
        runs, damaged_runs = _undamaged(verified, read_group(lake, RUN_TABLES, run_ids), run_ids)
        commits = commits_of(runs)
        analyses, damaged_analyses = _undamaged(
            verified, read_group(lake, ANALYSIS_TABLES, run_ids), run_ids, commits
        )
        profiles, damaged_profiles = _undamaged(verified, read_group(lake, PROFILE_TABLES))
    damaged = [*damaged_runs, *damaged_analyses, *damaged_profiles]
    return LakeContent(runs, analyses, profiles, damaged)


def _undamaged(
    verified: VerifiedFiles,
    group: GroupManifests,
    wanted: Collection[str] | None = None,
    commits: dict[str, str] | None = None,
) -> tuple[list[StoredManifest], list[Damage]]:
    """The manifests without damaged files, and the damage. A run may be in a second manifest."""
    damaged: dict[Location, Damage] = {}
    while True:
        selected = group.select(wanted, commits, damaged)
        found = {
            manifest.path: Damage(path, problem, group.group, manifest.name, manifest.run_ids)
            for manifest in selected
            if manifest.run_ids
            for _, path, listed in listed_files(manifest)
            if (problem := verified.problem(path, listed.sha256))
        }
        if not found:
            # A damaged manifest hides nothing if a segment has its run, or if its run is retired.
            known = set(readable_run_ids(selected))
            hiding = [
                each
                for each in group.damaged
                if not each.owners
                or any(o not in known and (commits is None or o in commits) for o in each.owners)
            ]
            return selected, [*hiding, *damaged.values()]
        damaged |= found


def complete_runs(lake: Location, run_ids: Collection[str] | None = None) -> list[StoredManifest]:
    """The manifests of the complete runs; their files are not opened.

    Raises:
        WrongFormat: a run of another format version.
    """
    return read_group(lake, RUN_TABLES, run_ids).select(run_ids)


def has_run(lake: Location, run_id: str) -> bool:
    """Whether the lake holds this run completely.

    Raises:
        CorruptFile: it has the run, and a file of it is damaged.
    """
    if not lake.is_dir():
        return False
    content = read_content(lake, [run_id])
    for damage in content.damaged:
        if damage.group is RUN_TABLES and run_id in damage.owners:
            raise damage_error(damage)
    return run_id in readable_run_ids(content.runs)


def run_commit(lake: Location, run_id: str) -> str | None:
    """The commit of a complete run; None if there is no such run."""
    return commits_of(complete_runs(lake, [run_id])).get(run_id)


def run_ids(lake: Location) -> list[str]:
    """The ids of the complete runs, sorted; none if there is no lake yet."""
    return readable_run_ids(complete_runs(lake))


def unanalysed_run_ids(lake: Location) -> list[str]:
    """The ids of the undamaged runs without an undamaged analysis of this version, sorted.

    Raises:
        LakeError: no lake.
        WrongFormat: as `complete_runs`.
    """
    content = read_content(lake)
    return sorted(set(readable_run_ids(content.runs)) - set(readable_run_ids(content.analyses)))


def damaged_run_ids(lake: Location) -> list[str]:
    """The runs that readers do not see, or see without analysis, because a file is damaged.

    Raises:
        LakeError: no lake.
        WrongFormat: as `complete_runs`.
    """
    damaged = [each for each in read_content(lake).damaged if each.group is not PROFILE_TABLES]
    return sorted(frozenset[str]().union(*(damage.owners for damage in damaged)))


def read_run_columns(lake: Location, columns: Sequence[str]) -> pl.DataFrame:
    """Some columns of `runs` over all complete runs, without opening any other table.

    A run whose row is damaged is left out. Without a lake there are no rows.

    Raises:
        WrongFormat: a run of another format version.
        CorruptFile: a `runs` file that cannot be read or has another schema.
    """
    with verified_files(lake) as verified:
        sources = [
            (path, manifest)
            for manifest in complete_runs(lake)
            if manifest.run_ids
            and (path := manifest.file(RUNS.name)) is not None
            and not verified.problem(path, manifest.files[RUNS.name].sha256)
        ]
    return _visible_rows(RUNS, sources, columns)


def read_table(lake: Location, name: str, run_ids: Collection[str] | None = None) -> pl.DataFrame:
    """The rows of one table, of all or the chosen complete runs.

    Raises:
        LakeError: no lake, no such table, or no such run.
        WrongFormat: a run of another format version.
        CorruptFile: a file that cannot be read or has another schema.
    """
    table = ALL_TABLES.get(name)
    if table is None:
        raise LakeError(f"no table {name!r}; the lake has {', '.join(ALL_TABLES)}")
    content = read_content(lake, run_ids)
    require_runs(lake, content, run_ids)
    return _visible_rows(table, content.files(table), list(table.schema))


def _visible_rows(
    table: Table, sources: Sequence[tuple[Location, StoredManifest]], columns: Sequence[str]
) -> pl.DataFrame:
    """Some columns of the rows that readers take from files."""
    files = [(path, manifest.files[table.name]) for path, manifest in sources]
    frames = parquet.read_columns(files, table, {table.owner_column, *columns})
    visible = [table.frame([])]
    for rows, (_, manifest) in zip(frames, sources, strict=True):
        if manifest.run_ids != manifest.all_run_ids:
            rows = rows.filter(pl.col(table.owner_column).is_in(manifest.run_ids))
        visible.append(rows)
    return pl.concat([rows.select(columns) for rows in visible])


def require_runs(lake: Location, content: LakeContent, run_ids: Collection[str] | None) -> None:
    """Raise unless the content has each of these runs.

    Raises:
        CorruptFile: a run has a damaged file.
        LakeError: no such run.
    """
    missing = set(run_ids or ()).difference(readable_run_ids(content.runs))
    for run_id in sorted(missing):
        for damage in content.damaged:
            if run_id in damage.owners and damage.group is RUN_TABLES:
                raise damage_error(damage)
        count = len(readable_run_ids(complete_runs(lake)))
        raise LakeError(f"no complete run {run_id!r} in {lake}; it has {count} runs")


def damage_error(damage: Damage) -> CorruptFile:
    """The error about a damaged file."""
    finding = finding_of(damage)
    return CorruptFile(f"{finding.file}: {finding.problem}; {finding.remedy}")


def check_files(lake: Location, run_ids: Collection[str]) -> None:
    """Raise if a file of these runs or of their analyses is not as it was written.

    Raises:
        CorruptFile: a file is missing or has changed; the message names the remedy.
        LakeError, WrongFormat: as `read_table`.
    """
    content = read_content(lake, run_ids)
    require_runs(lake, content, run_ids)
    for damage in content.damaged:
        if damage.owners & frozenset(run_ids):
            raise damage_error(damage)


def require_lake(lake: Location) -> None:
    """Raise LakeError if there is no lake."""
    if not lake.is_dir():
        raise LakeError(f"no lake at {lake}; set PRUNELAKE_LAKE, or sweep into it first")
