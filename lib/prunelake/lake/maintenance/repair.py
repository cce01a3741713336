"""Repair a lake: clean up leftovers, and move damaged files aside.

Both hold the locks of writers and publishers, and fail if another process holds them; readers
continue. Moved files keep their names in the lake, in the folder `<lake>/.quarantine/<time>/`.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake.commit import Analyse
from prunelake.lake.files import parquet
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.files.manifests import manifests
from prunelake.lake.files.paths import (
    QUARANTINE_FOLDER,
    SEGMENT_PREFIX,
    SNAPSHOT_FILE,
    is_segment,
    owner_id,
    table_file,
)
from prunelake.lake.maintenance.compact import delete_entries
from prunelake.lake.maintenance.leftovers import find_leftovers
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.read import is_sweep, require_lake, run_ids
from prunelake.lake.sql.bound_query import attach
from prunelake.lake.storage.location import (
    Location,
    delete,
    delete_folder,
    move,
    relative_name,
    write_text,
)
from prunelake.lake.storage.locks import PUBLISH_LOCK, locked
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.profile_tables import PROFILE_TABLES
from prunelake.schema.run_tables import RUN_TABLES, RUNS
from prunelake.schema.table import TableGroup
from prunelake.spec import SweepSpec

SpecAndIdentity = tuple[str, str]


def repair(lake: Location, analyse: Analyse) -> list[str]:
    """Clean up leftovers and compute missing analyses; return a line about each change.

    Temporary files and the shards of complete runs are deleted. Other files that belong to no
    complete run are moved aside. `analyse` computes missing analyses, unless a file is damaged:
    numbers from a damaged lake would look like valid numbers.

    Raises:
        LakeError: no such folder, a folder that cannot be written, or a writer at work.
        WrongFormat: a lake of another format version.
        CorruptFile: a manifest that cannot be opened, so that the complete runs are unknown.
    """
    with exclusive_access(lake):
        changes = _clean_up(lake, _QuarantineFolder(lake))
    findings = verify_lake(lake)
    if any(finding.kind is FindingKind.damaged for finding in findings):
        return changes
    for finding in findings:
        if finding.kind is FindingKind.unanalysed:
            run_id = owner_id(finding.file)
            analyse(lake, run_id)
            changes.append(f"analysed run {run_id}")
    return changes


def quarantine(lake: Location) -> list[str]:
    """Move damaged files aside with all files that depend on them; return a line about each change.

    A run is moved as a whole, its manifest first, together with its analysis. A segment is moved
    with all its runs. The lines say how to make each lost run again. All other runs stay unchanged.

    Raises:
        LakeError: no such folder, a folder that cannot be written, or a writer at work.
        WrongFormat: a lake of another format version.
    """
    with exclusive_access(lake):
        damaged = [finding.file for finding in find_damage(lake)]
        if not damaged:
            return []
        target, changes = _QuarantineFolder(lake), []
        # Analyses come before runs: only an undamaged segment can be rewritten.
        for group in (PROFILE_TABLES, ANALYSIS_TABLES, RUN_TABLES):
            owners = dict.fromkeys(owner_id(path) for path in damaged if path.parent.name in group)
            for owner in owners:
                changes += _quarantine_entry(lake, target, group, owner)
        return changes + _clean_up(lake, target)


class _QuarantineFolder:
    """The folder of one quarantine; it is created for the first moved file."""

    def __init__(self, lake: Location) -> None:
        self.lake = lake
        self._folder: Location | None = None

    @property
    def folder(self) -> Location:
        while self._folder is None:
            now = datetime.now(UTC)
            folder = self.lake / QUARANTINE_FOLDER / f"{now:%Y-%m-%dT%H%M%S.%fZ}"
            if not isinstance(folder, ObjectPath):
                folder.parent.mkdir(exist_ok=True)
                folder.mkdir()
            self._folder = folder
        return self._folder

    def add(self, path: Location) -> None:
        """Move a file or folder of the lake here, under its name in the lake."""
        move(path, self.folder / relative_name(path, self.lake))


@contextmanager
def exclusive_access(lake: Location) -> Iterator[None]:
    """Hold the locks of publishers and writers in the block, without waiting for them.

    Raises:
        LakeError: no such folder, a writer at work, or a folder that cannot be written.
    """
    require_lake(lake)
    try:
        with locked(lake, PUBLISH_LOCK, wait=False), locked(lake, wait=False):
            yield
    except OSError as error:
        raise LakeError(
            f"{lake} could not be repaired: {one_line(error)}; make room or fix the permissions "
            "and try again"
        ) from error


def _clean_up(lake: Location, target: _QuarantineFolder) -> list[str]:
    """Delete disposable files and move other leftovers aside; return a line about each."""
    changes = []
    for finding in find_leftovers(lake):
        path = finding.file
        if finding.kind is FindingKind.orphaned:
            target.add(path)
            changes.append(f"{path}: {finding.problem}; moved to {target.folder}")
            continue
        if path.is_dir():
            delete_folder(path)
        else:
            delete(path)
        changes.append(f"{path}: {finding.problem}; deleted")
    # If a lost run is swept again, it must not get its old analysis from a segment.
    analysed = {
        run_id
        for manifest in manifests(lake, ANALYSIS_TABLES)
        if is_segment(manifest.path)
        for run_id in manifest.all_run_ids
    }
    delete_entries(lake, ANALYSIS_TABLES, analysed.difference(run_ids(lake)))
    return changes


def _quarantine_entry(
    lake: Location, target: _QuarantineFolder, group: TableGroup, owner: str
) -> list[str]:
    """Move the files of a run, segment or profile aside; return a line about each lost run."""
    paths = [
        path
        for table in group
        for path in (lake / table).glob("*.parquet")
        if owner_id(path) == owner
    ]
    stored_ids = _stored_run_ids(paths, owner)
    specs = _recover_specs(lake, owner, stored_ids) if group is RUN_TABLES else {}
    for path in paths:  # the manifest is the first
        target.add(path)
    if group is PROFILE_TABLES:
        return [f"moved profile {owner} to {target.folder}; `prunelake profile` measures it again"]
    if group is ANALYSIS_TABLES:
        return [
            f"moved the analysis of run {run_id} to {target.folder}; `prunelake doctor --repair` "
            "computes it again"
            for run_id in sorted(stored_ids)
        ]
    return [
        f"moved run {run_id} to {target.folder}; {_rerun_hint(run_id, specs.get(run_id), target)}"
        for run_id in sorted(stored_ids.difference(run_ids(lake)))
    ]


def _stored_run_ids(paths: Sequence[Location], owner: str) -> set[str]:
    """The runs with rows in the files of a run or segment, as far as the files can be read."""
    if not owner.startswith(SEGMENT_PREFIX):
        return {owner}
    stored_ids: set[str] = set()
    for path in paths:
        with suppress(*parquet.READ_ERRORS):
            rows = pl.read_parquet(parquet.polars_source(path), columns=["run_id"], glob=False)
            stored_ids.update(rows["run_id"])
    return stored_ids


def _recover_specs(
    lake: Location, owner: str, run_ids: Collection[str]
) -> dict[str, SpecAndIdentity]:
    """The specs and identities of runs, from their manifest or from the published snapshot."""
    manifest = table_file(lake, RUNS.name, owner)
    with suppress(CorruptFile):
        if parquet.manifest_problem(manifest) is None:
            (rows,) = parquet.read_columns([manifest], RUNS, ["run_id", "spec", "identity"])
            return {run_id: (spec, identity) for run_id, spec, identity in rows.iter_rows()}
    with (
        suppress(duckdb.Error, FileNotFoundError),
        TemporaryDirectory() as folder,
        duckdb.connect() as connection,
    ):
        snapshot = lake / SNAPSHOT_FILE
        if isinstance(snapshot, ObjectPath):
            snapshot.download(f"{folder}/{SNAPSHOT_FILE}")
            snapshot = Path(folder) / SNAPSHOT_FILE
        attach(connection, snapshot, "published")
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
    if not is_sweep(identity):
        is_comparison = json.loads(identity)["kind"] == "comparison"
        verb = "compare the models" if is_comparison else "import it"
        return f"{verb} again; it came from {spec}"
    file = target.folder / f"{run_id}.yaml"
    text = SweepSpec.model_validate_json(spec).model_dump_json(indent=2)
    write_text(file, text + "\n")
    return f"`prunelake sweep {file} --lake {target.lake}` makes it again"
