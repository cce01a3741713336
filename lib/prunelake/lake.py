"""The lake: one Parquet file a table and run; a run exists once its `runs` file does.

`<lake>/<table>/<run_id>.parquet`, the `runs` file written last. Everything that reads the lake sees
complete runs only. No other module touches these files.
"""

import fcntl
import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from prunelake.errors import CorruptFile, LakeError, WrongFormat, one_line
from prunelake.spec import content_hash
from prunelake.tables import FORMAT_VERSION, RUNS, TABLES, Table

FORMAT_KEY = "prunelake.format_version"
TABLE_KEY = "prunelake.table"

RESTORE = "`prunelake doctor` names every bad file"


@dataclass(frozen=True)
class Finding:
    """Something wrong with one file of a lake, and what would put it right."""

    file: Path
    problem: str
    remedy: str


def has_run(lake: Path, run_id: str) -> bool:
    """Whether the lake holds this run, complete."""
    return _file(lake, "runs", run_id).is_file()


def run_ids(lake: Path) -> list[str]:
    """The complete runs, sorted; none where there is no lake yet."""
    return sorted(p.stem for p in (lake / "runs").glob("*.parquet") if not _is_hidden(p))


def files(lake: Path, table: str) -> list[Path]:
    """The files of one table, those of complete runs only."""
    return [_file(lake, table, run_id) for run_id in run_ids(lake)]


def read_table(lake: Path, name: str, run_ids: Sequence[str] | None = None) -> pl.DataFrame:
    """The rows of one table over all complete runs, or over those of `run_ids`.

    Raises:
        LakeError: no lake, no such table, or no such run.
        WrongFormat: a run of another format version.
        CorruptFile: a file that cannot be read or has another schema.
    """
    if name not in TABLES:
        raise LakeError(f"no table {name!r}; the lake has {', '.join(TABLES)}")
    check_format(lake)
    complete = {path.stem: path for path in files(lake, name)}
    chosen = complete.keys() if run_ids is None else run_ids
    for run_id in chosen:
        if run_id not in complete:
            raise LakeError(f"no complete run {run_id!r} in {lake}; it has {len(complete)} runs")
    frames = [_read(complete[run_id], TABLES[name]) for run_id in chosen]
    return pl.concat([TABLES[name].frame([]), *frames])


def check_format(lake: Path) -> None:
    """Raise unless every complete run opens and is of this format version.

    Raises:
        LakeError: no such folder.
        WrongFormat: a run of another format version, or of none.
        CorruptFile: a `runs` file that does not open as Parquet.
    """
    _require(lake)
    for path in files(lake, "runs"):
        found = _metadata(path).get(FORMAT_KEY)
        if found != str(FORMAT_VERSION):
            raise WrongFormat(
                f"{path} is of format {found or 'unknown'}, this version reads format "
                f"{FORMAT_VERSION}; use the version that wrote it, or another lake folder and "
                "sweep again"
            )


def check_writable(lake: Path) -> None:
    """Raise unless a run can be written there; to be asked before the work that makes one.

    Raises:
        LakeError: a folder that cannot be made or written.
        WrongFormat, CorruptFile: as `check_format`.
    """
    try:
        lake.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=lake):
            pass
    except OSError as error:
        raise LakeError(
            f"lake {lake} cannot be written ({one_line(error)}); fix the permissions or choose "
            "another folder"
        ) from error
    check_format(lake)


def write_run(lake: Path, run: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> bool:
    """Write one run, all or nothing; False, with nothing touched, if the lake has it already.

    `run` is the row of `runs` without `files`; `frames` has every other table, empty where the run
    has no such rows. Files that an earlier, unfinished writer of this run left are replaced.

    Raises:
        LakeError: rows that are not of their table, or a folder that cannot be written.
        WrongFormat, CorruptFile: as `check_format`; runs of two formats never share a lake.
    """
    run_id = str(run.get("run_id"))
    _check_run(run)
    _check_frames(run_id, frames)
    try:
        with _locked(lake):
            if has_run(lake, run_id):
                return False
            check_format(lake)
            written = [
                {
                    "table": name,
                    "rows": frame.height,
                    "sha256": _write(_file(lake, name, run_id), TABLES[name], frame),
                }
                for name, frame in frames.items()
            ]
            _write(_file(lake, "runs", run_id), RUNS, _run_frame({**run, "files": written}))
            return True
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LakeError(
            f"run {run_id} could not be written to {lake}: {one_line(error)}; make room or fix "
            "the permissions and sweep again"
        ) from error


def doctor(lake: Path) -> list[Finding]:
    """Check every file of every complete run, and name what belongs to none; changes nothing.

    Raises:
        LakeError: no such folder.
    """
    _require(lake)
    return [*damage(lake), *_leftovers(lake)]


def damage(lake: Path) -> Iterator[Finding]:
    """What is wrong with the files of complete runs: hash, schema, rows, keys, identity."""
    for run_file in files(lake, "runs"):
        yield from _run_findings(lake, run_file)


def _leftovers(lake: Path) -> Iterator[Finding]:
    complete = set(run_ids(lake))
    for path in sorted(p for name in TABLES for p in (lake / name).glob("*")):
        if _is_hidden(path):
            problem = "leftover: a temporary file"
        elif path.stem not in complete or path.suffix != ".parquet":
            problem = "leftover: belongs to no complete run"
        else:
            continue
        yield Finding(path, problem, "delete it, unless a sweep is writing now")


def _run_findings(lake: Path, run_file: Path) -> Iterator[Finding]:
    run_id = run_file.stem
    remedy = f"delete {run_file} or restore the file, and sweep again"
    try:
        found = _metadata(run_file).get(FORMAT_KEY)
        if found != str(FORMAT_VERSION):
            yield Finding(
                run_file,
                f"format {found or 'unknown'}, this version reads format {FORMAT_VERSION}",
                "use the version that wrote it, or another lake folder",
            )
            return
        runs = _read(run_file, RUNS)
    except LakeError as error:
        yield Finding(run_file, str(error), remedy)
        return
    for problem in (*_content_problems(runs, RUNS, run_id), *_run_row_problems(runs, run_id)):
        yield Finding(run_file, problem, remedy)
    recorded = {entry["table"]: entry for row in runs["files"].drop_nulls() for entry in row}
    for name, table in TABLES.items():
        if table is RUNS:
            continue
        path = _file(lake, name, run_id)
        for problem in _table_problems(path, table, run_id, recorded.get(name)):
            yield Finding(path, problem, remedy)


def _run_row_problems(runs: pl.DataFrame, run_id: str) -> Iterator[str]:
    if runs.height != 1:
        yield f"{runs.height} rows instead of one"
        return
    try:
        identity = content_hash(json.loads(runs["identity"].item() or ""))[:16]
    except ValueError:
        yield "its identity is not JSON"
    else:
        if identity != run_id:
            yield f"its identity hashes to {identity}, not to {run_id}"


def _table_problems(
    path: Path, table: Table, run_id: str, recorded: Mapping[str, Any] | None
) -> Iterator[str]:
    if recorded is None:
        yield "its run does not list it"
        return
    if not path.is_file():
        yield "missing"
        return
    try:
        if _sha256(path) != recorded["sha256"]:
            yield "its bytes are not those that were written (SHA-256 differs)"
        frame = _read(path, table)
    except LakeError as error:
        yield str(error)
        return
    except OSError as error:
        yield one_line(error)
        return
    if frame.height != recorded["rows"]:
        yield f"{frame.height} rows instead of the {recorded['rows']} written"
    yield from _content_problems(frame, table, run_id)


def _content_problems(frame: pl.DataFrame, table: Table, run_id: str) -> Iterator[str]:
    """What is wrong with rows that have the table's schema."""
    foreign = frame.filter(pl.col("run_id").ne_missing(run_id))
    if not foreign.is_empty():
        yield f"rows of run {foreign['run_id'][0]} instead of {run_id}"
    keys = frame.select(table.key)
    if any(column.null_count() for column in keys.get_columns()):
        yield f"null in the key ({', '.join(table.key)})"
    if keys.is_duplicated().any():
        yield f"the key ({', '.join(table.key)}) is not unique"


def _check_run(run: Mapping[str, Any]) -> None:
    expected = set(RUNS.schema) - {"files"}
    if set(run) != expected:
        raise LakeError(
            "a row of runs has exactly the columns of tables.RUNS but files; "
            f"differing: {', '.join(sorted(expected ^ set(run)))}"
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]+", str(run["run_id"])):
        raise LakeError(f"run_id {run['run_id']!r} is no file name; use letters, digits, - and _")
    _run_frame({**run, "files": []})


def _run_frame(row: dict[str, Any]) -> pl.DataFrame:
    try:
        return RUNS.frame([row])
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        raise LakeError(f"a row of runs has a value of another type: {one_line(error)}") from error


def _check_frames(run_id: str, frames: Mapping[str, pl.DataFrame]) -> None:
    expected = set(TABLES) - {"runs"}
    if set(frames) != expected:
        raise LakeError(
            f"a run has a frame, perhaps empty, for each of {', '.join(sorted(expected))}; "
            f"differing: {', '.join(sorted(expected ^ set(frames)))}"
        )
    for name, frame in frames.items():
        problem = _schema_problem(frame, TABLES[name])
        problem = problem or next(_content_problems(frame, TABLES[name], run_id), None)
        if problem:
            raise LakeError(f"table {name} of run {run_id}: {problem}")


def _schema_problem(frame: pl.DataFrame, table: Table) -> str | None:
    found, expected = list(frame.schema.items()), list(table.schema.items())
    if found == expected:
        return None
    differing = [f"{name} {dtype}" for name, dtype in found if (name, dtype) not in expected]
    missing = [f"{name} {dtype}" for name, dtype in expected if (name, dtype) not in found]
    if not differing and not missing:
        return f"another schema: the columns are not in the order {', '.join(table.schema)}"
    return f"another schema: has {differing or 'nothing more'}, lacks {missing or 'nothing'}"


def _write(path: Path, table: Table, frame: pl.DataFrame) -> str:
    """Write through a temporary name; the SHA-256 (hex) of what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    metadata = {FORMAT_KEY: str(FORMAT_VERSION), TABLE_KEY: table.name}
    try:
        frame.write_parquet(temporary, compression="zstd", metadata=metadata)
        digest = _sha256(temporary)
        _sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105  # the one call that failure tests intercept
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)
    return digest


@contextmanager
def _locked(lake: Path) -> Iterator[None]:
    """One writer at a time: two of one run would mix their files. Dies with its process."""
    lake.mkdir(parents=True, exist_ok=True)
    with (lake / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, table: Table) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _corrupt(path, error) from error
    problem = _schema_problem(frame, table)
    if problem:
        raise CorruptFile(f"{path} has {problem}; {RESTORE}")
    return frame


def _metadata(path: Path) -> dict[str, str]:
    try:
        return pl.read_parquet_metadata(path)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _corrupt(path, error) from error


def _corrupt(path: Path, error: BaseException) -> CorruptFile:
    run_file = path.parent.parent / "runs" / path.name
    return CorruptFile(
        f"{path} does not open as Parquet ({one_line(error)}); {RESTORE}: delete {run_file} or "
        "restore the file, and sweep again"
    )


def _require(lake: Path) -> None:
    if not lake.is_dir():
        raise LakeError(f"no lake at {lake}; set PRUNELAKE_LAKE, or sweep into it first")


def _file(lake: Path, table: str, run_id: str) -> Path:
    return lake / table / f"{run_id}.parquet"


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
