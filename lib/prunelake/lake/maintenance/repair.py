"""Repair a lake: restore lost runs, clean up leftovers, and move damaged files aside.

Moved files keep their names in the lake, in the folder `<lake>/.quarantine/<time>/`. Readers and
writers continue.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from prunelake.errors import CorruptFile
from prunelake.identity import run_kind
from prunelake.lake.commit import Analyse
from prunelake.lake.files import parquet
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.entries import retire_manifest
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import Damage
from prunelake.lake.files.paths import (
    QUARANTINE_FOLDER,
    SNAPSHOT_FILE,
    ManifestName,
    parse_data_file,
    parse_manifest,
)
from prunelake.lake.files.write_errors import write_errors
from prunelake.lake.maintenance.lost_runs import find_lost_runs, restore
from prunelake.lake.maintenance.verify import find_leftovers, verify_lake
from prunelake.lake.read import read_content, require_lake, run_ids
from prunelake.lake.sql.bound_query import attach
from prunelake.lake.storage.location import (
    Location,
    delete,
    delete_folder,
    download,
    list_folder,
    move,
    put,
    relative_name,
)
from prunelake.lake.storage.locks import MAINTENANCE_LOCK, locked
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import TableGroup
from prunelake.spec import SweepSpec

SpecAndIdentity = tuple[str, str]


def repair(lake: Location, analyse: Analyse) -> list[str]:
    """Restore lost runs, clean up leftovers and compute missing analyses; return a line for each.

    Lost runs whose files have changed are moved aside. `analyse` computes missing analyses, unless
    a file is damaged: numbers from a damaged lake would look like valid numbers.

    Raises:
        LakeError: no such folder, a folder that cannot be written, or another maintenance at work.
        WrongFormat: a lake of another format version.
    """
    with _maintenance(lake):
        changes = _restore_lost_runs(lake)
        for finding in find_leftovers(lake):
            if finding.kind is FindingKind.disposable:
                if finding.file.is_dir():
                    delete_folder(finding.file)
                else:
                    delete(finding.file)
                changes.append(f"{finding.file}: {finding.problem}; deleted")
    findings = verify_lake(lake)
    if any(finding.kind is FindingKind.damaged for finding in findings):
        return changes
    for finding in findings:
        if finding.kind is FindingKind.unanalysed and finding.run_id is not None:
            analyse(lake, finding.run_id)
            changes.append(f"analysed run {finding.run_id}")
    return changes


def quarantine(lake: Location) -> list[str]:
    """Move damaged files aside with all files that depend on them; return a line about each change.

    A run is moved as a whole, and a segment with all its runs. The lines say how to make each lost
    run again. All other runs stay unchanged.

    Raises:
        LakeError: no such folder, a folder that cannot be written, or another maintenance at work.
        WrongFormat: a lake of another format version.
    """
    with _maintenance(lake):
        by_name: dict[tuple[str, ManifestName], Damage] = {}
        for damage in find_damage(lake):
            by_name.setdefault((damage.group.owner_table.name, damage.manifest), damage)
        if not by_name:
            return []
        target, changes = _QuarantineFolder(lake), []
        for damage in by_name.values():
            changes += _quarantine_entry(lake, target, damage)
        return changes


class _QuarantineFolder:
    """The folder of one quarantine; it is created for the first moved file."""

    def __init__(self, lake: Location) -> None:
        self.lake = lake
        self.folder = lake / QUARANTINE_FOLDER / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S.%fZ}"

    def add(self, path: Location) -> None:
        """Move a file or folder of the lake here, under its name in the lake."""
        move(path, self.folder / relative_name(path, self.lake))


@contextmanager
def _maintenance(lake: Location) -> Iterator[None]:
    require_lake(lake)
    failure = f"{lake} could not be repaired"
    with write_errors(failure, "try again"), locked(lake, MAINTENANCE_LOCK, wait=False):
        yield


def _restore_lost_runs(lake: Location) -> list[str]:
    target, changes = _QuarantineFolder(lake), []
    for lost in find_lost_runs(lake):
        if restore(lake, lost):
            changes += [f"restored run {run_id}" for run_id in lost.run_ids]
            continue
        specs = {row["run_id"]: (row["spec"], row["identity"]) for row in lost.rows.to_dicts()}
        retire_manifest(lake, RUN_TABLES, lost.name)
        _move_files(lake, target, RUN_TABLES, lost.name)
        changes += [
            f"moved run {run_id}, which has lost more than its manifest, to {target.folder}; "
            f"{_rerun_hint(run_id, specs[run_id], target)}"
            for run_id in lost.run_ids
        ]
    return changes


def _quarantine_entry(lake: Location, target: _QuarantineFolder, damage: Damage) -> list[str]:
    """Move the files of a run, segment or profile aside; return a line about each lost run.

    If only the manifest of a run is damaged, it is made again from the data files.
    """
    group, name = damage.group, damage.manifest
    manifest_path = name.manifest(lake / group.owner_table.name)
    if group is RUN_TABLES and damage.file == manifest_path:
        target.add(manifest_path)
        for lost in find_lost_runs(lake):
            if lost.name == name and restore(lake, lost):
                return [
                    f"restored run {run_id}, and moved its damaged manifest to {target.folder}"
                    for run_id in lost.run_ids
                ]
        if manifest_path.is_file():  # another process has written the run meanwhile
            return []
    lost_ids = set(damage.owners) or _stored_run_ids(lake, group, name)
    specs = _recover_specs(lake, name, lost_ids) if group is RUN_TABLES else {}
    served = {
        owner_id
        for manifest in read_content(lake).group(group)
        if manifest.name != name
        for owner_id in manifest.run_ids
    }
    if not lost_ids <= served:
        # First hide the entry: no reader sees a part of a run.
        retire_manifest(lake, group, name)
    _move_files(lake, target, group, name)
    if group is PROFILE_TABLES:
        return [
            f"moved profile {name.entry} to {target.folder}; `prunelake profile` measures it again"
        ]
    if group is ANALYSIS_TABLES:
        return [
            f"moved the analysis of run {run_id} to {target.folder}; `prunelake doctor --repair` "
            "computes it again"
            for run_id in sorted(lost_ids)
        ]
    return [
        f"moved run {run_id} to {target.folder}; {_rerun_hint(run_id, specs.get(run_id), target)}"
        for run_id in sorted(lost_ids.difference(run_ids(lake)))
    ]


def _move_files(
    lake: Location, target: _QuarantineFolder, group: TableGroup, name: ManifestName
) -> None:
    for table in group:
        for path in list_folder(lake / table, f"{name.entry}.{name.generation}.*"):
            data = parse_data_file(path)
            is_manifest = path.suffix == ".json" and parse_manifest(path) == name
            if is_manifest or (data is not None and data[0] == name):
                target.add(path)


def _stored_run_ids(lake: Location, group: TableGroup, name: ManifestName) -> set[str]:
    """The runs with rows in the files of a segment, as far as the files can be read."""
    stored: set[str] = set()
    for path in _owner_files(lake, group, name):
        with suppress(CorruptFile):
            stored.update(parquet.read(path, group.owner_table)[group.owner_column])
    return stored


def _owner_files(lake: Location, group: TableGroup, name: ManifestName) -> list[Location]:
    pattern = f"{name.entry}.{name.generation}.*.parquet"
    return list_folder(lake / group.owner_table.name, pattern)


def _recover_specs(
    lake: Location, name: ManifestName, run_ids: Collection[str]
) -> dict[str, SpecAndIdentity]:
    """The specs and identities of runs, from their rows or from the published snapshot."""
    for path in _owner_files(lake, RUN_TABLES, name):
        with suppress(CorruptFile):
            rows = parquet.read(path, RUNS).select("run_id", "spec", "identity")
            return {run_id: (spec, identity) for run_id, spec, identity in rows.iter_rows()}
    with (
        suppress(duckdb.Error, FileNotFoundError),
        TemporaryDirectory() as folder,
        duckdb.connect() as connection,
    ):
        attach(connection, download(lake / SNAPSHOT_FILE, Path(folder)), "published")
        connection.execute(
            "select run_id, spec, identity from published.lake.runs where list_contains(?, run_id)",
            [sorted(run_ids)],
        )
        return {run_id: (spec, identity) for run_id, spec, identity in connection.fetchall()}
    return {}


def _rerun_hint(run_id: str, known: SpecAndIdentity | None, target: _QuarantineFolder) -> str:
    """How to make a run again. The spec of a sweep is written to a file for this."""
    if known is None:
        return "its spec is lost with it: sweep or import it again as you did before"
    spec, identity = known
    if (kind := run_kind(identity)) != "sweep":
        verb = "compare the models" if kind == "comparison" else "import it"
        return f"{verb} again; it came from {spec}"
    file = target.folder / f"{run_id}.yaml"
    text = SweepSpec.model_validate_json(spec).model_dump_json(indent=2)
    put(file, f"{text}\n".encode())
    return f"`prunelake sweep {file} --lake {target.lake}` computes it again"
