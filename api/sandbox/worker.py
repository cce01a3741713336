"""SQL of others in a process of its own: `python -I -m api.sandbox.worker MEMORY_BYTES`.

Started in the lake's folder, it gets ready, says so, answers the one question that comes on its
standard input, and ends. Once it knows the question it can open no file and no socket any more,
write nothing, and use no more than its memory and time; `api.sandbox.worker_pool` starts and
kills it.
"""

import ctypes
import math
import os
import re
import resource
import signal
import sys
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
from pydantic import BaseModel

from prunelake.errors import LimitExceeded, NoSnapshot, PruneLakeError, QueryError, one_line
from prunelake.lake.bound_query import Connection
from prunelake.lake.views import error_message, read_only_statement
from prunelake.schema.row_formats import RowFormat, encode_rows, to_json

from ..queries.snapshot import LatestSnapshot, open_cursor

READY_LINE = b"ready\n"

BATCH_ROWS = 2048

TEXT_FORMATS = (RowFormat.json, RowFormat.ndjson, RowFormat.csv)

EXACT_TYPES = {
    *("boolean", "float", "double", "decimal", "varchar", "uuid", "enum", "date"),
    *("tinyint", "smallint", "integer", "bigint"),
    *("utinyint", "usmallint", "uinteger", "ubigint"),
    *("timestamp", "timestamp_s", "timestamp_ms", "timestamp with time zone"),
}
"""DuckDB's types whose values polars and JSON hold as they are."""


class SqlRequest(BaseModel):
    """A statement of someone else, and the limits of its answer."""

    query: str
    format: RowFormat
    max_rows: int
    max_bytes: int
    max_seconds: float
    memory_bytes: int

    @property
    def limits(self) -> dict[str, float]:
        """The limits by name."""
        return self.model_dump(exclude={"query", "format"})


class SqlResponseHeader(BaseModel):
    """One line before the `size` bytes of an answer; `error` is the name of an error's class."""

    snapshot: str = ""
    row_count: int = 0
    is_truncated: bool = False
    size: int = 0
    error: str = ""
    message: str = ""


def main(memory_bytes: int) -> None:
    """Answer one question; without one, as the server has ended, none."""
    answers = _reserve_stdout()
    parent_death_signal = 1
    ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
    snapshots = LatestSnapshot(Path(), memory_bytes)
    _warm_up(snapshots)
    answers.write(READY_LINE)
    answers.flush()
    line = sys.stdin.buffer.readline()
    if line:
        head, body = answer_request(snapshots, SqlRequest.model_validate_json(line))
        answers.write(head.model_dump_json().encode() + b"\n")
        answers.write(body)
        answers.flush()


def answer_request(
    snapshots: LatestSnapshot, question: SqlRequest
) -> tuple[SqlResponseHeader, bytes]:
    """What the last published snapshot answers, or why it does not."""
    try:
        snapshot = snapshots.current()
        _limit_process(question)
        with open_cursor(snapshot.connection) as connection:
            return run_query(connection, snapshot.id, question)
    except (MemoryError, duckdb.OutOfMemoryException):
        error: PruneLakeError = LimitExceeded(
            f"this takes more than the {question.memory_bytes:,} bytes of memory of a query; ask "
            "for one run, fewer columns or an aggregate"
        )
    except duckdb.Error as refused:
        error = QueryError(f"{error_message(refused)} (GET /views lists views and columns)")
    except PruneLakeError as raised:
        error = raised
    except Exception:
        return SqlResponseHeader(error="Exception", message=traceback.format_exc()[-4000:]), b""
    return SqlResponseHeader(error=type(error).__name__, message=str(error)[:4000]), b""


def run_query(
    connection: Connection, snapshot_id: str, question: SqlRequest
) -> tuple[SqlResponseHeader, bytes]:
    """The first rows of a query that fit into its limits.

    Raises:
        QueryError: more than reading, or an answer that the format has no words for.
        LimitExceeded: a first row beyond `max_bytes`.
        duckdb.Error, MemoryError: what DuckDB refuses, or cannot do within the limits.
    """
    relation = connection.sql(read_only_statement(connection, question.query))
    columns = [
        {"name": name, "type": _type_name(str(kind))}
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]
    names = [column["name"] for column in columns]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise QueryError(f"several columns are called {', '.join(twice)}; give them other names")
    head = SqlResponseHeader(snapshot=snapshot_id)
    try:
        frame, is_cut = _first_rows(relation, question)

        def body(count: int) -> bytes:
            head.row_count, head.is_truncated = count, is_cut or count < frame.height
            rows = encode_rows(frame.head(count), question.format)
            if question.format is not RowFormat.json:
                return rows
            start = to_json({"snapshot": snapshot_id, "columns": columns})
            end = to_json(
                {
                    "row_count": head.row_count,
                    "is_truncated": head.is_truncated,
                    "limits": question.limits,
                }
            )
            return start[:-1] + b',"rows":' + rows + b"," + end[1:]

        found = _largest_body_within(body, frame.height, question.max_bytes)
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
            f"{question.format} cannot hold the answer ({one_line(error)}); give its columns "
            "other names, or cast them to varchar"
        ) from error
    head.size = len(found)
    return head, found


def _first_rows(
    relation: duckdb.DuckDBPyRelation, question: SqlRequest
) -> tuple[pl.DataFrame, bool]:
    """Rows up to `max_rows` and about `max_bytes`, and whether there are more."""
    is_text = question.format in TEXT_FORMATS
    kinds = [export_type(kind, is_text) for kind in relation.types]
    if kinds != [str(kind) for kind in relation.types]:
        casts = (
            f"cast(#{position} as {kind}) as {_quote_identifier(name)}"
            for position, (name, kind) in enumerate(zip(relation.columns, kinds, strict=True), 1)
        )
        relation = relation.project(", ".join(casts))
    batches: list[pa.RecordBatch] = []
    count = size = 0
    is_cut = False
    reader = relation.to_arrow_reader(BATCH_ROWS)
    try:
        for batch in reader:
            if is_cut := count >= question.max_rows or size >= question.max_bytes:
                break
            batches.append(batch)
            count, size = count + batch.num_rows, size + batch.nbytes
    except OSError as error:  # what DuckDB raises within the stream
        if str(error).startswith("Out of Memory"):
            raise MemoryError from error
        raise QueryError(error_message(error)) from error
    table = pa.Table.from_batches(batches, reader.schema)
    # A name ends at its first zero byte in Arrow.
    frame = pl.DataFrame(table.rename_columns(relation.columns))
    return frame.head(question.max_rows), is_cut or frame.height > question.max_rows


def export_type(kind: Any, is_text: bool) -> str:
    """The SQL type to which a DuckDB type is cast, so that no value changes on the way out.

    What polars lacks or would change becomes text as DuckDB writes it, also within lists, structs
    and maps; in text formats bytes and the keys of maps do, too.
    """
    name = kind.id
    if name in EXACT_TYPES or (name == "blob" and not is_text):
        return str(kind)
    if name == "hugeint":
        return "DECIMAL(38,0)"  # which refuses the largest, that polars would round
    if name == "list":
        return f"{export_type(kind.child, is_text)}[]"
    if name == "array":
        (_, child), (_, size) = kind.children
        return f"{export_type(child, is_text)}[{size}]"
    if name == "struct" and kind.children:
        fields = (
            f"{_quote_identifier(field)} {export_type(of, is_text)}" for field, of in kind.children
        )
        return f"STRUCT({', '.join(fields)})"
    if name == "map":
        key = "VARCHAR" if is_text else export_type(kind.key, is_text)
        return f"MAP({key}, {export_type(kind.value, is_text)})"
    return "VARCHAR"


def _type_name(kind: str) -> str:
    """A type as `GET /views` writes it: in lower case, but for names and values in quotes."""
    pieces = re.findall(r"""'[^']*'|"[^"]*"|[^'"]+""", kind)
    return "".join(piece if piece[0] in "'\"" else piece.lower() for piece in pieces)


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _largest_body_within(body: Any, height: int, max_bytes: int) -> bytes:
    """The body of as many rows as fit, within some percent; it is written in growing steps."""
    count, is_over = min(height, 256), False
    while True:
        found: bytes = body(count)
        fitting = int(count * max_bytes / len(found))
        if len(found) > max_bytes:
            is_over = True
            count = int(fitting * 0.95)
            if count == 0:
                raise LimitExceeded(
                    f"one row is more than the {max_bytes:,} bytes of an answer; ask for fewer "
                    "columns, or for a part of a long value"
                )
        elif is_over or count == height:
            return found
        else:
            count = min(height, count * 8, max(fitting, count + 1))


def _reserve_stdout() -> BinaryIO:
    """The standard output for answers alone: what libraries print goes nowhere from here on."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    return answers


def _warm_up(snapshots: LatestSnapshot) -> None:
    """Load what answering takes: later no file can be opened, and someone waits."""
    with suppress(NoSnapshot):  # the one who asks is told
        snapshots.current()
    query = "select now() as time, [{'a': 1.5::decimal(2, 1)}] as rows, map {'a': 1} as counts"
    limits = {"max_rows": 1, "max_bytes": 10_000, "max_seconds": 1, "memory_bytes": 1}
    with duckdb.connect() as connection:
        for format in RowFormat:
            run_query(connection, "", SqlRequest(query=query, format=format, **limits))


def _limit_process(question: SqlRequest) -> None:
    """Give up files, sockets, and what is beyond the memory and time of the question."""
    os.dup2(1, 2)
    # The server comes first on the processor, also where sessions share it (autogroup).
    os.nice(10)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("10")
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    memory = data_pages * resource.getpagesize() + question.memory_bytes
    used = sum(os.times()[:2])
    # The server kills earlier; this is for when it cannot.
    seconds = math.ceil(used + question.max_seconds) + 1
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main(int(sys.argv[1]))
