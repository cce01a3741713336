"""Runs one query, and writes as many of its rows as the limits allow."""

from collections import Counter
from collections.abc import Callable

import duckdb
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types

from prunelake.errors import LimitExceeded, QueryError, one_line
from prunelake.lake.sql.bound_query import Connection, error_message, sql_identifier
from prunelake.lake.sql.views import read_only_statement
from prunelake.schema.row_formats import RowFormat, encode_rows, to_json

from .exported_types import export_type, type_name
from .messages import SqlRequest, SqlResponseHeader

BATCH_ROWS = 2048

TEXT_FORMATS = (RowFormat.json, RowFormat.ndjson, RowFormat.csv)


def run_query(
    connection: Connection, snapshot_id: str, request: SqlRequest
) -> tuple[SqlResponseHeader, bytes]:
    """The first rows of a query that fit into its limits.

    Raises:
        QueryError: a statement that does more than read, or rows that the format cannot hold.
        LimitExceeded: a first row of more than `max_bytes`.
        duckdb.Error, MemoryError: DuckDB refuses, or cannot answer within the limits.
    """
    relation = connection.sql(read_only_statement(connection, request.query))
    columns = [
        {"name": name, "type": type_name(str(kind))}
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]
    counts = Counter(column["name"] for column in columns)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise QueryError(f"several columns are called {', '.join(repeated)}; give them other names")
    header = SqlResponseHeader(snapshot=snapshot_id)
    try:
        frame, is_cut = _first_rows(relation, request)

        def body_of(count: int) -> bytes:
            header.row_count, header.is_truncated = count, is_cut or count < frame.height
            rows = encode_rows(frame.head(count), request.format, request.is_for_spreadsheet)
            if request.format is not RowFormat.json:
                return rows
            start = to_json({"snapshot": snapshot_id, "columns": columns})
            end = to_json(
                {
                    "row_count": header.row_count,
                    "is_truncated": header.is_truncated,
                    "limits": request.limits,
                }
            )
            return start[:-1] + b',"rows":' + rows + b"," + end[1:]

        body = _largest_body(body_of, frame.height, request.max_bytes)
    except MemoryError:
        raise
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        pa.ArrowException,
        ValueError,
        TypeError,
        OverflowError,
    ) as error:
        raise QueryError(
            f"{request.format} cannot hold the answer ({one_line(error)}); give its columns "
            "other names, or cast them to varchar"
        ) from error
    header.size = len(body)
    return header, body


def _first_rows(
    relation: duckdb.DuckDBPyRelation, request: SqlRequest
) -> tuple[pl.DataFrame, bool]:
    """Rows up to `max_rows` and about `max_bytes`, and whether there are more."""
    is_text = request.format in TEXT_FORMATS
    kinds = [export_type(kind, is_text) for kind in relation.types]
    if kinds != [str(kind) for kind in relation.types]:
        casts = (
            f"cast(#{position} as {kind}) as {sql_identifier(name)}"
            for position, (name, kind) in enumerate(zip(relation.columns, kinds, strict=True), 1)
        )
        relation = relation.project(", ".join(casts))
    batches: list[pa.RecordBatch] = []
    count = size = 0
    is_cut = False
    reader = relation.to_arrow_reader(BATCH_ROWS)
    try:
        for batch in reader:
            if is_cut := count >= request.max_rows or size >= request.max_bytes:
                break
            batches.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
    except OSError as error:  # DuckDB raises it within the stream
        if str(error).startswith("Out of Memory"):
            raise MemoryError from error
        raise QueryError(error_message(error)) from error
    table = pa.Table.from_batches(batches, reader.schema)
    # Arrow ends a name at its first zero byte.
    frame = pl.DataFrame(table.rename_columns(relation.columns))
    return frame.head(request.max_rows), is_cut or frame.height > request.max_rows


def _largest_body(body_of: Callable[[int], bytes], height: int, max_bytes: int) -> bytes:
    """The body with as many of `height` rows as fit, to within a few percent.

    `body_of` writes the first rows. It is called with growing counts, because rows differ in size.
    """
    count, is_over = min(height, 256), False
    while True:
        body = body_of(count)
        fitting = int(count * max_bytes / len(body))
        if len(body) > max_bytes:
            is_over = True
            count = int(fitting * 0.95)
            if count == 0:
                raise LimitExceeded(
                    f"one row exceeds the {max_bytes:,} bytes of an answer; select fewer "
                    "columns, or a part of a long value"
                )
        elif is_over or count == height:
            return body
        else:
            count = min(height, count * 8, max(fitting, count + 1))
