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
from prunelake.lake.compact import drop
from prunelake.lake.locks import PUBLISHING, locked
from prunelake.lake.manifests import ANALYSED, MEASURED, PROFILED, SEGMENT, Group, is_segment, parts
from prunelake.lake.objects import ObjectPath
from prunelake.lake.publish import NAME
from prunelake.lake.read import require, run_ids
from prunelake.lake.storage import Location, delete, delete_folder, move, within, write_text
from prunelake.lake.verify import Kind, damage, doctor, leftovers
from prunelake.schema.run_tables import RUNS
from prunelake.spec import SweepSpec

QUARANTINE = ".quarantine"


def repair(lake: Location) -> list[str]:
    """Do what is safe, and say in a line each what was done.

    Temporary files and the shards of complete runs are deleted; other files that belong to no
    complete run are moved aside. Missing analyses are computed, unless a file is damaged: numbers
    from such a lake would look as good as any.

    Raises:
        LakeError: no such folder, one that cannot be written, or a writer at work.
        WrongFormat, CorruptFile: a head file that does not open, so that it is not known which
            files belong to no run.
    """
    from prunelake.analysis.analyse import analyse

    with alone(lake):
        done = _cleared(lake, _Aside(lake))
    found = doctor(lake)
    if any(finding.kind is Kind.damaged for finding in found):
        return done
    for finding in found:
        if finding.kind is Kind.unanalysed:
            analyse(lake, parquet.owner(finding.file))
            done.append(f"analysed run {parquet.owner(finding.file)}")
    return done


def quarantine(lake: Location) -> list[str]:
    """Move damaged files aside, with all that only makes sense beside them, and say what was moved.

    A run goes whole, head file first, with its analysis; so does a segment with all its runs. The
    lines tell how each lost run is made again. Every other run stays as it is, to the byte.

    Raises:
        LakeError: no such folder, one that cannot be written, or a writer at work.
        WrongFormat: a lake of another format version.
    """
    with alone(lake):
        bad = [finding for finding in damage(lake) if finding.kind is Kind.damaged]
        if not bad:
            return []
        aside, done = _Aside(lake), []
        # Analyses first: without those that are damaged, others can be dropped from segments.
        for group in (PROFILED, ANALYSED, MEASURED):
            names = dict.fromkeys(
                f"{parquet.owner(f.file)}.parquet"
                for f in bad
                if f.file.parent.name in group.tables
            )
            for name in names:
                done += _part_aside(lake, aside, group, name)
        return done + _cleared(lake, aside)


class _Aside:
    """The folder of one quarantine, made when something is moved there."""

    def __init__(self, lake: Location) -> None:
        self.lake = lake
        self._folder: Location | None = None

    @property
    def folder(self) -> Location:
        while self._folder is None:
            now = datetime.now(UTC)
            folder = self.lake / QUARANTINE / f"{now:%Y-%m-%dT%H%M%S.%fZ}"
            if not isinstance(folder, ObjectPath):
                folder.parent.mkdir(exist_ok=True)
                folder.mkdir()
            self._folder = folder
        return self._folder

    def take(self, path: Location) -> None:
        """Move a file or folder of the lake here, by the name that it has there."""
        move(path, self.folder / within(path, self.lake))


@contextmanager
def alone(lake: Location) -> Iterator[None]:
    """Hold the locks of publishers and writers, or refuse where one is at work.

    Raises:
        LakeError: no such folder, a writer at work, or a failure to write.
    """
    require(lake)
    try:
        with locked(lake, PUBLISHING, waits=False), locked(lake, waits=False):
            yield
    except OSError as error:
        raise LakeError(
            f"{lake} could not be put right: {one_line(error)}; make room or fix the permissions "
            "and ask again"
        ) from error


def _cleared(lake: Location, aside: _Aside) -> list[str]:
    """Delete what is spent and move aside what is left over; what was done."""
    done = []
    for finding in leftovers(lake):
        path = finding.file
        if finding.kind is Kind.left_over:
            aside.take(path)
            done.append(f"{path}: {finding.problem}; moved to {aside.folder}")
            continue
        if path.is_dir():
            delete_folder(path)
        else:
            delete(path)
        done.append(f"{path}: {finding.problem}; deleted")
    # Swept again, a lost run must not take up the analysis that a segment still has of it.
    held = {run for part in parts(lake, ANALYSED) if is_segment(part.head) for run in part.held}
    drop(lake, ANALYSED, held.difference(run_ids(lake)))
    return done


def _part_aside(lake: Location, aside: _Aside, group: Group, name: str) -> list[str]:
    """Move the files of a run or segment aside; how each run that is lost by that is made again."""
    run = name.removesuffix(".parquet")
    files = [
        path
        for table in group.tables
        for path in (lake / table).glob("*.parquet")
        if parquet.owner(path) == run
    ]
    held = _held(files, name)
    specs = _specs(lake, name, held) if group is MEASURED else {}
    for path in files:  # the head is the first
        aside.take(path)
    if group is PROFILED:
        return [f"moved profile {run} to {aside.folder}; `prunelake profile` measures it again"]
    if group is ANALYSED:
        return [
            f"moved the analysis of run {run_id} to {aside.folder}; `prunelake doctor --repair` "
            "computes it again"
            for run_id in sorted(held)
        ]
    return [
        f"moved run {run_id} to {aside.folder}; {_again(run_id, specs.get(run_id), aside)}"
        for run_id in sorted(held.difference(run_ids(lake)))
    ]


def _held(files: Sequence[Location], name: str) -> set[str]:
    """The runs of a part, as far as its files still tell."""
    if not name.startswith(SEGMENT):
        return {name.removesuffix(".parquet")}
    found: set[str] = set()
    for path in files:
        with suppress(*parquet.READING_ERRORS):
            read = pl.read_parquet(parquet.source(path), columns=["run_id"], glob=False)
            found.update(read["run_id"])
    return found


def _specs(lake: Location, name: str, held: Collection[str]) -> dict[str, str]:
    """The specs of runs: as their head file has them if it is whole, else as last published."""
    head = lake / RUNS.name / name
    with suppress(CorruptFile):
        if parquet.seal_problem(head) is None:
            (rows,) = parquet.read_columns([head], RUNS, ["run_id", "spec"])
            return dict(rows.iter_rows())
    with (
        suppress(duckdb.Error, FileNotFoundError),
        TemporaryDirectory() as folder,
        duckdb.connect() as connection,
    ):
        published = lake / NAME
        if isinstance(published, ObjectPath):
            published.download(f"{folder}/{NAME}")
            published = Path(folder) / NAME
        quoted = str(published).replace("'", "''")
        connection.execute(f"attach '{quoted}' as published (read_only)")
        connection.execute(
            "select run_id, spec from published.lake.runs where list_contains(?, run_id)",
            [sorted(held)],
        )
        return dict(connection.fetchall())
    return {}


def _again(run_id: str, spec: str | None, aside: _Aside) -> str:
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
