"""Put a lake right: clear what no run needs, and move aside what is not what was written.

Both take the locks of writers and publishers, and refuse where one is at work; readers go on. What
is moved aside lies under `<lake>/.quarantine/<time>/` by the names that it had in the lake.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import polars as pl
from pydantic import ValidationError

from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake import parquet
from prunelake.lake.compact import delete_entries
from prunelake.lake.locks import PUBLISH_LOCK, locked
from prunelake.lake.manifests import (
    ANALYSIS_GROUP,
    PROFILE_GROUP,
    RUN_GROUP,
    SEGMENT_PREFIX,
    TableGroup,
    is_segment,
    manifests,
)
from prunelake.lake.objects import ObjectPath
from prunelake.lake.publish import SNAPSHOT_FILE
from prunelake.lake.read import Analyse, require_lake, run_ids
from prunelake.lake.storage import Location, delete, delete_folder, move, relative_name, write_text
from prunelake.lake.verify import FindingKind, find_damage, find_orphans, verify_lake
from prunelake.schema.run_tables import RUNS
from prunelake.spec import SweepSpec

QUARANTINE_FOLDER = ".quarantine"


def repair(lake: Location, analyse: Analyse) -> list[str]:
    """Do what is safe, and say in a line each what was done.

    Temporary files and the shards of complete runs are deleted; other files that belong to no
    complete run are moved aside. `analyse` computes missing analyses, unless a file is damaged:
    numbers from such a lake would look as good as any.

    Raises:
        LakeError: no such folder, one that cannot be written, or a writer at work.
        WrongFormat, CorruptFile: a head file that does not open, so that it is not known which
            files belong to no run.
    """
    with exclusive_access(lake):
        done = _clean_up(lake, _QuarantineFolder(lake))
    found = verify_lake(lake)
    if any(finding.kind is FindingKind.damaged for finding in found):
        return done
    for finding in found:
        if finding.kind is FindingKind.unanalysed:
            analyse(lake, parquet.owner_id(finding.file))
            done.append(f"analysed run {parquet.owner_id(finding.file)}")
    return done


def quarantine(lake: Location) -> list[str]:
    """Move damaged files aside, with all that only makes sense beside them, and say what was moved.

    A run goes whole, head file first, with its analysis; so does a segment with all its runs. The
    lines tell how each lost run is made again. Every other run stays as it is, to the byte.

    Raises:
        LakeError: no such folder, one that cannot be written, or a writer at work.
        WrongFormat: a lake of another format version.
    """
    with exclusive_access(lake):
        bad = [finding for finding in find_damage(lake) if finding.kind is FindingKind.damaged]
        if not bad:
            return []
        aside, done = _QuarantineFolder(lake), []
        # Analyses first: without those that are damaged, others can be dropped from segments.
        for group in (PROFILE_GROUP, ANALYSIS_GROUP, RUN_GROUP):
            names = dict.fromkeys(
                f"{parquet.owner_id(f.file)}.parquet"
                for f in bad
                if f.file.parent.name in group.tables
            )
            for name in names:
                done += _quarantine_entry(lake, aside, group, name)
        return done + _clean_up(lake, aside)


class _QuarantineFolder:
    """The folder of one quarantine, made when something is moved there."""

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
        """Move a file or folder of the lake here, by the name that it has there."""
        move(path, self.folder / relative_name(path, self.lake))


@contextmanager
def exclusive_access(lake: Location) -> Iterator[None]:
    """Hold the locks of publishers and writers, or refuse where one is at work.

    Raises:
        LakeError: no such folder, a writer at work, or a failure to write.
    """
    require_lake(lake)
    try:
        with locked(lake, PUBLISH_LOCK, waits=False), locked(lake, waits=False):
            yield
    except OSError as error:
        raise LakeError(
            f"{lake} could not be put right: {one_line(error)}; make room or fix the permissions "
            "and ask again"
        ) from error


def _clean_up(lake: Location, aside: _QuarantineFolder) -> list[str]:
    """Delete what is spent and move aside what is left over; what was done."""
    done = []
    for finding in find_orphans(lake):
        path = finding.file
        if finding.kind is FindingKind.orphaned:
            aside.add(path)
            done.append(f"{path}: {finding.problem}; moved to {aside.folder}")
            continue
        if path.is_dir():
            delete_folder(path)
        else:
            delete(path)
        done.append(f"{path}: {finding.problem}; deleted")
    # Swept again, a lost run must not take up the analysis that a segment still has of it.
    held = {
        run
        for part in manifests(lake, ANALYSIS_GROUP)
        if is_segment(part.path)
        for run in part.all_run_ids
    }
    delete_entries(lake, ANALYSIS_GROUP, held.difference(run_ids(lake)))
    return done


def _quarantine_entry(
    lake: Location, aside: _QuarantineFolder, group: TableGroup, name: str
) -> list[str]:
    """Move the files of a run or segment aside; how each run that is lost by that is made again."""
    run = name.removesuffix(".parquet")
    files = [
        path
        for table in group.tables
        for path in (lake / table).glob("*.parquet")
        if parquet.owner_id(path) == run
    ]
    held = _stored_run_ids(files, name)
    specs = _recover_specs(lake, name, held) if group is RUN_GROUP else {}
    for path in files:  # the head is the first
        aside.add(path)
    if group is PROFILE_GROUP:
        return [f"moved profile {run} to {aside.folder}; `prunelake profile` measures it again"]
    if group is ANALYSIS_GROUP:
        return [
            f"moved the analysis of run {run_id} to {aside.folder}; `prunelake doctor --repair` "
            "computes it again"
            for run_id in sorted(held)
        ]
    return [
        f"moved run {run_id} to {aside.folder}; {_rerun_hint(run_id, specs.get(run_id), aside)}"
        for run_id in sorted(held.difference(run_ids(lake)))
    ]


def _stored_run_ids(files: Sequence[Location], name: str) -> set[str]:
    """The runs of a part, as far as its files still tell."""
    if not name.startswith(SEGMENT_PREFIX):
        return {name.removesuffix(".parquet")}
    found: set[str] = set()
    for path in files:
        with suppress(*parquet.READ_ERRORS):
            read = pl.read_parquet(parquet.polars_source(path), columns=["run_id"], glob=False)
            found.update(read["run_id"])
    return found


def _recover_specs(lake: Location, name: str, held: Collection[str]) -> dict[str, str]:
    """The specs of runs: as their head file has them if it is whole, else as last published."""
    head = lake / RUNS.name / name
    with suppress(CorruptFile):
        if parquet.checksum_problem(head) is None:
            (rows,) = parquet.read_columns([head], RUNS, ["run_id", "spec"])
            return dict(rows.iter_rows())
    with (
        suppress(duckdb.Error, FileNotFoundError),
        TemporaryDirectory() as folder,
        duckdb.connect() as connection,
    ):
        published = lake / SNAPSHOT_FILE
        if isinstance(published, ObjectPath):
            published.download(f"{folder}/{SNAPSHOT_FILE}")
            published = Path(folder) / SNAPSHOT_FILE
        quoted = str(published).replace("'", "''")
        connection.execute(f"attach '{quoted}' as published (read_only)")
        connection.execute(
            "select run_id, spec from published.lake.runs where list_contains(?, run_id)",
            [sorted(held)],
        )
        return dict(connection.fetchall())
    return {}


def _rerun_hint(run_id: str, spec: str | None, aside: _QuarantineFolder) -> str:
    """How a run is made again; its spec is written beside its files for that."""
    if spec is None:
        return "its spec is lost with it: sweep or import it again as it was asked for"
    try:
        asked = SweepSpec.model_validate_json(spec)
    except ValidationError:
        return f"import it again; it came from {spec}"
    file = aside.folder / f"{run_id}.yaml"
    write_text(file, asked.model_dump_json(indent=2) + "\n")
    return f"`prunelake sweep {file} --lake {aside.lake}` makes it again"
