"""The rows of a query in each format, and within each limit."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from prunelake.api.queries.snapshots.snapshot import open_cursor, open_snapshot
from prunelake.api.sandbox.limited_query import run_query
from prunelake.api.sandbox.messages import SqlRequest, SqlResponseHeader
from prunelake.errors import LimitExceeded, QueryError
from prunelake.lake.sql.bound_query import Connection
from prunelake.schema.row_formats import RowFormat

QUERY = "select run_id, level, is_correct from predictions order by level"
LIMITS = {"max_rows": 10_000, "max_bytes": 10_000_000, "max_seconds": 5.0}


@pytest.fixture(scope="module")
def connection(sql_lake: Path) -> Iterator[Connection]:
    with open_cursor(open_snapshot(sql_lake / "prunelake.duckdb", 500_000_000).connection) as found:
        yield found


def answered(
    connection: Connection, query: str, format: str = "json", **limits: Any
) -> tuple[SqlResponseHeader, bytes]:
    request = SqlRequest(query=query, format=RowFormat(format), memory_bytes=1, **(LIMITS | limits))
    return run_query(connection, "the-snapshot", request)


def frame_of(body: bytes, format: str) -> pl.DataFrame:
    """The rows of a body as a reader of the format gets them; CSV gives texts."""
    match format:
        case "parquet":
            return pl.read_parquet(io.BytesIO(body))
        case "arrow":
            return pl.read_ipc_stream(io.BytesIO(body))
        case "csv":
            return pl.DataFrame(list(csv.DictReader(io.StringIO(body.decode()))))
        case "ndjson":
            return pl.DataFrame([json.loads(line) for line in body.splitlines()], strict=False)
    return pl.DataFrame(json.loads(body)["rows"], strict=False)


@pytest.mark.parametrize("format", list(RowFormat))
def test_each_format_holds_the_rows(connection: Connection, format: str) -> None:
    head, body = answered(connection, QUERY, format)
    rows = frame_of(body, format).to_dicts()
    assert (head.row_count, head.is_truncated, head.size) == (2, False, len(body))
    assert [(str(row["level"]), str(row["is_correct"]).lower()) for row in rows] == [
        ("0", "true"),
        ("1", "false"),
    ]


def test_json_names_the_snapshot_and_the_limits(connection: Connection) -> None:
    _, body = answered(connection, "select level, [level] as list from predictions order by level")
    assert json.loads(body) == {
        "snapshot": "the-snapshot",
        "columns": [{"name": "level", "type": "integer"}, {"name": "list", "type": "integer[]"}],
        "rows": [{"level": 0, "list": [0]}, {"level": 1, "list": [1]}],
        "row_count": 2,
        "is_truncated": False,
        "limits": LIMITS | {"memory_bytes": 1},
    }


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("null", '"NULL"', None),
        ("sum(3)", "hugeint", 3),
        ("99999999999999999999999999999999999999::hugeint", "hugeint", "9" * 38),
        ("18446744073709551615::ubigint", "ubigint", 18446744073709551615),
        ("340282366920938463463374607431768211455::uhugeint", "uhugeint", str(2**128 - 1)),
        ("123456789012345678901234567890::bignum", "bignum", "123456789012345678901234567890"),
        ("1.50::decimal(4, 2)", "decimal(4,2)", "1.50"),
        ("'nan'::double", "double", None),
        ("interval '1 month 2 days'", "interval", "1 month 2 days"),
        ("[interval 1 day]", "interval[]", ["1 day"]),
        ("'12:30:00+02'::timetz", "time with time zone", "12:30:00+02"),
        ("'24:00:00'::time", "time", "24:00:00"),
        ("'2020-01-02 03:04:05.123456789'::timestamp_ns", None, "2020-01-02 03:04:05.123456789"),
        ("timestamp '2020-01-02 03:04:05'", "timestamp", "2020-01-02T03:04:05"),
        ("date '2020-01-02'", "date", "2020-01-02"),
        ("'101'::bit", "bit", "101"),
        ("'\\x00a'::blob", "blob", "\\x00a"),
        ("'00000000-0000-0000-0000-000000000001'::uuid", "uuid", f"{'0' * 8}{'-0000' * 3}-{1:012}"),
        ("'B'::enum('a', 'B')", "enum('a', 'B')", "B"),
        ("union_value(k := 1)", "union(k integer)", "1"),
        ("map {1: 2}", "map(integer, integer)", {"1": 2}),
        (
            "{'A b': {'c': interval 1 day}}",
            'struct("A b" struct(c interval))',
            {"A b": {"c": "1 day"}},
        ),
        ("[1, 2]::integer[2]", "integer[2]", [1, 2]),
        ("{'a': 1}::variant", "variant", "{'a': 1}"),
        ("'{\"a\": 1}'::json", "json", '{"a": 1}'),
    ],
)
def test_no_value_changes_in_any_format(
    connection: Connection, value: str, kind: str | None, expected: Any
) -> None:
    _, body = answered(connection, f"select {value} as x")
    answer = json.loads(body)
    assert answer["rows"] == [{"x": expected}]
    assert kind in (None, answer["columns"][0]["type"])


def test_every_type_is_written_or_refused_in_every_format(connection: Connection) -> None:
    refused = {}
    for name in connection.sql("from test_all_types()").columns:
        for format in RowFormat:
            try:
                query = f'select 1 as n, "{name}" as x from test_all_types()'
                head, body = answered(connection, query, format)
            except (QueryError, duckdb.ConversionException) as error:
                refused[name] = str(error)
            else:
                assert head.row_count == frame_of(body, format).height == 3
    # Only times beyond Python's range, the largest integers, and structs without fields.
    times = {"date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_tz"}
    lists = {"date_array", "timestamp_array", "timestamptz_array"}
    assert set(refused) <= times | lists | {"hugeint", "empty_struct"}
    assert "Could not cast value" in refused.pop("hugeint")
    assert all("cast them to varchar" in message for message in refused.values())


def test_rows_keep_their_order_where_a_column_becomes_text(connection: Connection) -> None:
    query = "select range as n, interval 1 day as d from range(5000) order by n desc"
    _, body = answered(connection, query)
    assert [row["n"] for row in json.loads(body)["rows"]] == list(range(4999, -1, -1))


@pytest.mark.parametrize("rows", [0, 1, 2048, 2049])
def test_rows_beyond_the_limit_are_cut_off_and_reported(connection: Connection, rows: int) -> None:
    whole, _ = answered(connection, f"from range({rows})", max_rows=max(rows, 1))
    assert (whole.row_count, whole.is_truncated) == (rows, False)
    cut, body = answered(connection, f"from range({rows + 1})", max_rows=max(rows, 1))
    assert (cut.row_count, cut.is_truncated) == (max(rows, 1), rows > 0)
    assert json.loads(body)["is_truncated"] is cut.is_truncated


def test_an_endless_answer_is_read_no_further_than_its_limit(connection: Connection) -> None:
    head, _ = answered(connection, "select * from range(1000000000000000)", max_rows=10)
    assert (head.row_count, head.is_truncated) == (10, True)


@pytest.mark.parametrize("format", list(RowFormat))
def test_bytes_beyond_the_limit_are_cut_off_and_reported(
    connection: Connection, format: str
) -> None:
    # Hashes, which Parquet cannot compress.
    query = "select range as n, md5(range::varchar) as text from range(9000)"
    head, body = answered(connection, query, format, max_bytes=50_000)
    assert 25_000 < len(body) <= 50_000
    assert head.is_truncated
    numbers = frame_of(body, format)["n"].cast(pl.Int64).to_list()
    assert numbers == list(range(head.row_count))


def test_a_row_that_cannot_fit_is_refused(connection: Connection) -> None:
    with pytest.raises(LimitExceeded, match="one row exceeds the 1,000 bytes"):
        answered(connection, "select repeat('x', 2000) as x from range(3)", max_bytes=1000)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select 1 as a, 2 as b, 3 as a", "several columns are called a; give them other names"),
        ("select if(range = 5000, error('boo'), 1) from range(9000)", "Invalid Input Error: boo"),
        ("select 1; select 2", "2 statements"),
        ("select 'infinity'::date as x", "json cannot hold the answer .* cast them to varchar"),
    ],
)
def test_the_error_of_an_unanswerable_query_gives_the_reason(
    connection: Connection, query: str, message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        answered(connection, query)


def test_csv_for_a_spreadsheet_has_no_formula_in_a_cell_or_a_heading(
    connection: Connection,
) -> None:
    query = """select '=1' as "=x", -1 as n, 'a=1' as y, '-5' as z"""
    request = SqlRequest(
        query=query,
        format=RowFormat.csv,
        is_for_spreadsheet=True,
        max_rows=9,
        max_bytes=9999,
        max_seconds=9,
        memory_bytes=1,
    )
    _, body = run_query(connection, "", request)
    assert body.decode() == "'=x,n,y,z\n'=1,-1,a=1,'-5\n"
