"""One Parquet file of a table: encoded, and read as exactly its table."""

import io
from collections.abc import Sequence

import polars as pl

from prunelake.errors import CorruptFile, one_line
from prunelake.lake.files.manifests import ListedFile, list_file
from prunelake.lake.files.paths import ManifestName, data_file
from prunelake.lake.files.row_checks import schema_problem
from prunelake.lake.files.verified import check_object
from prunelake.lake.storage.location import Location, create, local_path, prefetch_all, put
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
        CorruptFile: the file cannot be opened or has another schema, or an object has changed.
    """
    try:
        if local := local_path(path):
            frame = pl.read_parquet(local, glob=False)
        else:
            content = path.read_bytes()
            check_object(path, content)
            frame = pl.read_parquet(content)
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
    paths: Sequence[Location], table: Table, columns: Sequence[str]
) -> list[pl.DataFrame]:
    """Some columns of many files of one table, read at once: one frame per path.

    Raises:
        CorruptFile: as `read`.
    """
    if not paths:
        return []
    local = [each for path in paths if (each := local_path(path)) is not None]
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
