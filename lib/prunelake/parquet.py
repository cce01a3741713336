"""One Parquet file of a table: written whole or not at all, read as exactly its table."""

import hashlib
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from prunelake.errors import CorruptFile, WrongFormat, one_line
from prunelake.tables import ANALYSES, DERIVED, FORMAT_VERSION, RUNS, Table

FORMAT_KEY = "prunelake.format_version"
TABLE_KEY = "prunelake.table"

ROW_GROUP_ROWS = 65_536  # so that one run's rows are found without reading those of many

RESTORE = "`prunelake doctor` names every bad file"

READING_ERRORS = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


def write(
    path: Path, table: Table, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None
) -> str:
    """Write through a temporary name; the SHA-256 (hex) of what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    keys = {FORMAT_KEY: str(FORMAT_VERSION), TABLE_KEY: table.name, **(metadata or {})}
    try:
        frame.write_parquet(
            temporary, compression="zstd", row_group_size=ROW_GROUP_ROWS, metadata=keys
        )
        digest = sha256(temporary)
        sync(temporary)
        os.replace(temporary, path)  # noqa: PTH105  # the one call that failure tests intercept
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return digest


def read(path: Path, table: Table) -> pl.DataFrame:
    """The rows of one file.

    Raises:
        CorruptFile: a file that does not open or has another schema.
    """
    try:
        frame = pl.read_parquet(path, glob=False)
    except READING_ERRORS as error:
        raise _corrupt(path, error) from error
    problem = schema_problem(frame, table)
    if problem:
        raise CorruptFile(f"{path} has {problem}; {RESTORE}")
    return frame


def read_columns(paths: Sequence[Path], table: Table, columns: Sequence[str]) -> list[pl.DataFrame]:
    """Some columns of many files of one table at once, a frame for each path.

    Raises:
        CorruptFile: as `read`.
    """
    if not paths:
        return []
    try:
        rows = (
            pl.scan_parquet(list(paths), glob=False, include_file_paths="path")
            .select("path", *columns)
            .collect()
        )
    except READING_ERRORS:
        return [read(path, table).select(columns) for path in paths]  # this names the file
    by_path = rows.partition_by("path", as_dict=True, include_key=False)
    return [by_path.get((str(path),), rows.clear().drop("path")) for path in paths]


def metadata(path: Path) -> dict[str, str]:
    """What a file says of itself beside its rows.

    Raises:
        CorruptFile: a file that does not open as Parquet.
        WrongFormat: a file of another format version, or of none.
    """
    try:
        found = pl.read_parquet_metadata(path)
    except READING_ERRORS as error:
        raise _corrupt(path, error) from error
    if found.get(FORMAT_KEY) != str(FORMAT_VERSION):
        raise WrongFormat(
            f"{path} is of format {found.get(FORMAT_KEY, 'unknown')}, this version reads format "
            f"{FORMAT_VERSION}; use the version that wrote it, or another lake folder and sweep "
            "again"
        )
    return found


def schema_problem(frame: pl.DataFrame, table: Table) -> str | None:
    """How the columns of a frame differ from those of its table."""
    found, expected = list(frame.schema.items()), list(table.schema.items())
    if found == expected:
        return None
    differing = [f"{name} {dtype}" for name, dtype in found if (name, dtype) not in expected]
    missing = [f"{name} {dtype}" for name, dtype in expected if (name, dtype) not in found]
    if not differing and not missing:
        return f"another schema: the columns are not in the order {', '.join(table.schema)}"
    return f"another schema: has {differing or 'nothing more'}, lacks {missing or 'nothing'}"


def content_problems(frame: pl.DataFrame, table: Table, run_ids: Collection[str]) -> Iterator[str]:
    """What is wrong with rows that have the table's schema and should be of these runs."""
    foreign = frame.filter(~pl.col("run_id").is_in(list(run_ids)).fill_null(value=False))
    if not foreign.is_empty():
        expected = next(iter(run_ids)) if len(run_ids) == 1 else f"the {len(run_ids)} it is of"
        yield f"rows of run {foreign['run_id'][0]} instead of {expected}"
    keys = frame.select(table.key)
    if any(column.null_count() for column in keys.get_columns()):
        yield f"null in the key ({', '.join(table.key)})"
    if keys.is_duplicated().any():
        yield f"the key ({', '.join(table.key)}) is not unique"


def sha256(path: Path) -> str:
    """The SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remedy(path: Path) -> str:
    """What would put a damaged file of a lake right: what it belongs to can be made again."""
    if path.parent.name in DERIVED:
        head = path.parent.parent / ANALYSES.name / path.name
        return f"delete {head} and run `prunelake analyse`"
    return (
        f"delete {path.parent.parent / RUNS.name / path.name} or restore the file, and sweep again"
    )


def _corrupt(path: Path, error: BaseException) -> CorruptFile:
    return CorruptFile(
        f"{path} does not open as Parquet ({one_line(error)}); {RESTORE}: {remedy(path)}"
    )
