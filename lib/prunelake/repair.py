"""Put a lake right: clear what no run needs, and move aside what is not what was written.

Both take the locks of writers and publishers, and refuse where one is at work; readers go on. What
is moved aside lies under `<lake>/.quarantine/<time>/` by the names that it had in the lake.
"""

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
from pydantic import ValidationError

from prunelake import parquet
from prunelake.compact import drop
from prunelake.doctor import Kind, damage, doctor, leftovers
from prunelake.errors import CorruptFile, LakeError, one_line
from prunelake.lake import PUBLISHING, locked, require, run_ids
from prunelake.parts import ANALYSED, MEASURED, SEGMENT, Group, is_segment, parts
from prunelake.publish import NAME
from prunelake.spec import SweepSpec
from prunelake.tables import RUNS

QUARANTINE = ".quarantine"


def repair(lake: Path) -> list[str]:
    """Do what is safe, and say in a line each what was done.

    Temporary files and the shards of complete runs are deleted; other files that belong to no
    complete run are moved aside. Missing analyses are computed, unless a file is damaged: numbers
    from such a lake would look as good as any.

    Raises:
        LakeError: no such folder, one that cannot be written, or a writer at work.
        WrongFormat, CorruptFile: a head file that does not open, so that it is not known which
            files belong to no run.
    """
    from prunelake.analyse import analyse

    with alone(lake):
        done = _cleared(lake, _Aside(lake))
    found = doctor(lake)
    if any(finding.kind is Kind.damaged for finding in found):
        return done
    for finding in found:
        if finding.kind is Kind.unanalysed:
            analyse(lake, finding.file.stem)
            done.append(f"analysed run {finding.file.stem}")
    return done


def quarantine(lake: Path) -> list[str]:
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
        for group in (ANALYSED, MEASURED):
            names = dict.fromkeys(f.file.name for f in bad if f.file.parent.name in group.tables)
            for name in names:
                done += _part_aside(lake, aside, group, name)
        return done + _cleared(lake, aside)


class _Aside:
    """The folder of one quarantine, made when something is moved there."""

    def __init__(self, lake: Path) -> None:
        self.lake = lake
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        while self._folder is None:
            now = datetime.now(UTC)
            folder = self.lake / QUARANTINE / f"{now:%Y-%m-%dT%H%M%S.%fZ}"
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir()
            self._folder = folder
        return self._folder

    def take(self, path: Path) -> None:
        """Move a file or folder of the lake here, by the name that it has there."""
        target = self.folder / path.relative_to(self.lake)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        parquet.sync(path.parent)


@contextmanager
def alone(lake: Path) -> Iterator[None]:
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


def _cleared(lake: Path, aside: _Aside) -> list[str]:
    """Delete what is spent and move aside what is left over; what was done."""
    done = []
    for finding in leftovers(lake):
        path = finding.file
        if finding.kind is Kind.left_over:
            aside.take(path)
            done.append(f"{path}: {finding.problem}; moved to {aside.folder}")
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        done.append(f"{path}: {finding.problem}; deleted")
    # Swept again, a lost run must not take up the analysis that a segment still has of it.
    held = {run for part in parts(lake, ANALYSED) if is_segment(part.head) for run in part.held}
    drop(lake, ANALYSED, held.difference(run_ids(lake)))
    return done


def _part_aside(lake: Path, aside: _Aside, group: Group, name: str) -> list[str]:
    """Move the files of a run or segment aside; how each run that is lost by that is made again."""
    files = [path for table in group.tables if (path := lake / table / name).is_file()]
    held = _held(files, name)
    specs = _specs(lake, name, held) if group is MEASURED else {}
    for path in files:  # the head is the first
        aside.take(path)
    if group is ANALYSED:
        return [
            f"moved the analysis of run {run_id} to {aside.folder}; `prunelake doctor --repair` "
            "computes it again"
            for run_id in sorted(held)
        ]
    return [
        f"moved run {run_id} to {aside.folder}; {_again(run_id, specs.get(run_id), aside.folder)}"
        for run_id in sorted(held.difference(run_ids(lake)))
    ]


def _held(files: Sequence[Path], name: str) -> set[str]:
    """The runs of a part, as far as its files still tell."""
    if not name.startswith(SEGMENT):
        return {Path(name).stem}
    found: set[str] = set()
    for path in files:
        with suppress(*parquet.READING_ERRORS):
            found.update(pl.read_parquet(path, columns=["run_id"], glob=False)["run_id"])
    return found


def _specs(lake: Path, name: str, held: Collection[str]) -> dict[str, str]:
    """The specs of runs: as their head file has them if it is whole, else as last published."""
    head = lake / RUNS.name / name
    with suppress(CorruptFile):
        if parquet.seal_problem(head) is None:
            (rows,) = parquet.read_columns([head], RUNS, ["run_id", "spec"])
            return dict(rows.iter_rows())
    with suppress(duckdb.Error), duckdb.connect() as connection:
        quoted = str(lake / NAME).replace("'", "''")
        connection.execute(f"attach '{quoted}' as published (read_only)")
        connection.execute(
            "select run_id, spec from published.lake.runs where list_contains(?, run_id)",
            [sorted(held)],
        )
        return dict(connection.fetchall())
    return {}


def _again(run_id: str, spec: str | None, folder: Path) -> str:
    """How a run is made again; its spec is written beside its files for that."""
    if spec is None:
        return "its spec is lost with it: sweep or import it again as it was asked for"
    try:
        asked = SweepSpec.model_validate_json(spec)
    except ValidationError:
        return f"import it again; it came from {spec}"
    file = folder / f"{run_id}.yaml"
    file.write_text(asked.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return f"`prunelake sweep {file} --lake {folder.parents[1]}` makes it again"
