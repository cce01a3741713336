"""One Parquet file of a table: written whole or not at all, and read as exactly its table."""

import hashlib
import io
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from prunelake.errors import CorruptFile, WrongFormat, one_line
from prunelake.lake.files.checksums import (
    CHECKSUM_DIFFERS,
    CHECKSUM_KEY,
    EMPTY_CHECKSUM,
    insert_checksum,
    matches_checksum,
    sha256,
)
from prunelake.lake.files.findings import repair_hint
from prunelake.lake.files.row_checks import schema_problem
from prunelake.lake.storage.location import Location, fsync, prefetch_all
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.table import FORMAT_VERSION, Table

FORMAT_KEY = "prunelake.format_version"
TABLE_KEY = "prunelake.table"

ROW_GROUP_ROWS = 65_536
"""With small row groups, a reader finds one run in a segment without reading all runs."""

READ_ERRORS = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""The errors of polars when a file is missing or damaged."""


def write(
    path: Location, table: Table, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None
) -> str:
    """Write a whole file, replacing an existing file; return its SHA-256 (hex)."""
    if isinstance(path, ObjectPath):
        content = encode(table, frame, metadata)
        path.put(content)
        return hashlib.sha256(content).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        _write(temporary, table, frame, metadata)
        if table.is_manifest:
            temporary.write_bytes(insert_checksum(temporary.read_bytes()))
        digest = sha256(temporary)
        fsync(temporary)
        os.replace(temporary, path)  # noqa: PTH105  # tests of failures intercept this call
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)
    return digest


def encode(table: Table, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file; the bytes of a manifest contain their checksum."""
    buffer = io.BytesIO()
    _write(buffer, table, frame, metadata)
    return insert_checksum(buffer.getvalue()) if table.is_manifest else buffer.getvalue()


def read(path: Location, table: Table) -> pl.DataFrame:
    """The rows of one file.

    Raises:
        CorruptFile: the file cannot be opened or has another schema.
    """
    try:
        frame = pl.read_parquet(polars_source(path), glob=False)
    except READ_ERRORS as error:
        raise _corrupt(path, error) from error
    problem = schema_problem(frame, table)
    if problem:
        raise CorruptFile(f"{path} has {problem}; `prunelake doctor` lists every damaged file")
    return frame


def read_columns(
    paths: Sequence[Location], table: Table, columns: Sequence[str]
) -> list[pl.DataFrame]:
    """Some columns of many files of one table, read at once: one frame per path.

    Raises:
        CorruptFile: as `read`.
    """
    if not paths:
        return []
    local = [path for path in paths if isinstance(path, Path)]
    if len(local) < len(paths):
        return [read(path, table).select(columns) for path in prefetch_all(paths)]
    try:
        rows = (
            pl.scan_parquet(local, glob=False, include_file_paths="path")
            .select("path", *columns)
            .collect()
        )
    except READ_ERRORS:
        return [read(path, table).select(columns) for path in paths]  # its error names the file
    by_path = rows.partition_by("path", as_dict=True, include_key=False)
    return [by_path.get((str(path),), rows.clear().drop("path")) for path in paths]


def polars_source(path: Location) -> Path | io.BytesIO:
    """A file in a form that polars reads."""
    return path if isinstance(path, Path) else io.BytesIO(path.read_bytes())


def read_metadata(path: Location) -> dict[str, str]:
    """The metadata beside the rows of a file.

    Raises:
        CorruptFile: the file cannot be opened, or its metadata names no format version.
        WrongFormat: the file has another format version.
    """
    metadata = _metadata(path)
    _check_format(path, metadata)
    return metadata


def manifest_problem(path: Location) -> str | None:
    """The damage to a manifest, found by its own checksum; None if there is no damage.

    Raises:
        CorruptFile: the file cannot be opened, or its metadata names no format version.
        WrongFormat: the file is undamaged and has another format version.
    """
    metadata = _metadata(path)
    checksum = metadata.get(CHECKSUM_KEY)
    if checksum is not None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _corrupt(path, error) from error
        # This check comes before the format: a damaged byte may look like another version.
        if not matches_checksum(content, checksum):
            return CHECKSUM_DIFFERS
    _check_format(path, metadata)
    return "it has no checksum" if checksum is None else None


def _metadata(path: Location) -> dict[str, str]:
    try:
        return pl.read_parquet_metadata(polars_source(path))
    except READ_ERRORS as error:
        raise _corrupt(path, error) from error


def _check_format(path: Location, metadata: Mapping[str, str]) -> None:
    version = metadata.get(FORMAT_KEY)
    if version is None:
        raise CorruptFile(f"{path} names no format version; {repair_hint(path)}")
    if version != str(FORMAT_VERSION):
        raise WrongFormat(
            f"{path} has format {version}, and this version of PruneLake reads format "
            f"{FORMAT_VERSION}; use the version that wrote it, or another lake folder and sweep "
            "again"
        )


def _write(
    target: Path | io.BytesIO,
    table: Table,
    frame: pl.DataFrame,
    metadata: Mapping[str, str] | None,
) -> None:
    keys = {FORMAT_KEY: str(FORMAT_VERSION), TABLE_KEY: table.name, **(metadata or {})}
    if table.is_manifest:
        keys[CHECKSUM_KEY] = EMPTY_CHECKSUM
    frame.write_parquet(target, compression="zstd", row_group_size=ROW_GROUP_ROWS, metadata=keys)


def _corrupt(path: Location, error: BaseException) -> CorruptFile:
    return CorruptFile(
        f"{path} does not open as Parquet ({one_line(error)}); `prunelake doctor` lists every "
        f"damaged file: {repair_hint(path)}"
    )
