"""One Parquet file of a table: encoded, and read as exactly its table."""

import io
from collections.abc import Collection, Sequence
from itertools import accumulate

import polars as pl

from prunelake.errors import CorruptFile, one_line
from prunelake.lake.files.listed_file import ListedFile, list_file
from prunelake.lake.files.paths import ManifestName, data_file
from prunelake.lake.files.row_checks import schema_problem
from prunelake.lake.files.verified import read_verified
from prunelake.lake.storage.location import Location, create, put
from prunelake.lake.storage.reading import prefetch_all
from prunelake.schema.table import Table

ROW_GROUP_ROWS = 65_536
"""With small row groups, a reader finds one run in a segment without reading all runs."""

READ_ERRORS = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""The errors of polars when a file is missing or damaged."""


def encode(frame: pl.DataFrame) -> bytes:
    """The bytes of a data file; the same rows give the same bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    return buffer.getvalue()


def write(lake: Location, table: Table, name: ManifestName, frame: pl.DataFrame) -> ListedFile:
    """Write a data file for a manifest, which lists it."""
    content = encode(frame)
    listed = list_file(content, frame.height)
    path = data_file(lake, table.name, name, listed.sha256)
    # If the file exists, an earlier writer wrote the same content; it may be damaged by now.
    if not create(path, content) and path.read_bytes() != content:
        put(path, content)
    return listed


def read(path: Location, table: Table) -> pl.DataFrame:
    """The rows of one file.

    Raises:
        CorruptFile: the file has changed, cannot be opened, or has another schema.
    """
    try:
        frame = pl.read_parquet(read_verified(path))
    except READ_ERRORS as error:
        raise CorruptFile(
            f"{path} does not open as Parquet ({one_line(error)}); `prunelake doctor` lists every "
            "damaged file"
        ) from error
    problem = schema_problem(frame, table)
    if problem:
        raise CorruptFile(f"{path} has {problem}; `prunelake doctor` lists every damaged file")
    return frame


def read_columns(
    files: Sequence[tuple[Location, ListedFile]], table: Table, columns: Collection[str]
) -> list[pl.DataFrame]:
    """Some columns of many files of one table, read at once: one frame per file.

    Raises:
        CorruptFile: as `read`.
    """
    if not files:
        return []
    paths = prefetch_all([path for path, _ in files])
    try:
        contents = [read_verified(path) for path in paths]
        rows = pl.scan_parquet(contents, schema=dict(table.schema)).select(columns).collect()
    except READ_ERRORS:
        return [read(path, table).select(columns) for path in paths]  # its error names the file
    ends = accumulate(listed.rows for _, listed in files)
    return [rows[end - listed.rows : end] for end, (_, listed) in zip(ends, files, strict=True)]
