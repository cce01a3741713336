"""SQL of others: what is answered, in which formats and types, and within which limits."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from starlette.testclient import TestClient

from api.queries.snapshot import open_cursor, open_snapshot
from api.sandbox.limited_query import run_query
from api.sandbox.messages import SqlRequest, SqlResponseHeader
from api.sandbox.worker_pool import WorkerPool
from api.settings import ApiSettings
from prunelake.analysis.analyse import analyse
from prunelake.errors import LimitExceeded, NoSnapshot, QueryError, ServerBusy
from prunelake.lake.bound_query import Connection
from prunelake.lake.publish import publish
from prunelake.schema.row_formats import RowFormat
from tests.support.api_client import api_client
from tests.support.lake_rows import small_run, write

QUERY = "select run_id, level, is_correct from predictions order by level"
LIMITS = {"max_rows": 10_000, "max_bytes": 10_000_000, "max_seconds": 5.0}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    run_row, rows = small_run()
    write(folder, run_row, **{name: frame.to_dicts() for name, frame in rows.items()})
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def connection(lake: Path) -> Iterator[Connection]:
    with open_cursor(open_snapshot(lake / "prunelake.duckdb", 500_000_000).connection) as found:
        yield found


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(
        lake, sql=True, sql_max_rows=100, sql_max_seconds=30, sql_memory_bytes=500_000_000
    ) as found:
        yield found


def answered(
    connection: Connection, query: str, format: str = "json", **limits: Any
) -> tuple[SqlResponseHeader, bytes]:
    question = SqlRequest(
        query=query, format=RowFormat(format), memory_bytes=1, **(LIMITS | limits)
    )
    return run_query(connection, "the-snapshot", question)


def frame_of(body: bytes, format: str) -> pl.DataFrame:
    """The rows of a body as a reader of the format gets them; those of CSV are texts."""
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


def test_json_tells_what_was_read_and_within_which_limits(connection: Connection) -> None:
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
def test_no_value_changes_on_its_way(
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
    # Only times beyond what Python knows, the largest integers, and structs without fields.
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
def test_rows_beyond_the_limit_are_left_off_and_told(connection: Connection, rows: int) -> None:
    whole, _ = answered(connection, f"from range({rows})", max_rows=max(rows, 1))
    assert (whole.row_count, whole.is_truncated) == (rows, False)
    cut, body = answered(connection, f"from range({rows + 1})", max_rows=max(rows, 1))
    assert (cut.row_count, cut.is_truncated) == (max(rows, 1), rows > 0)
    assert json.loads(body)["is_truncated"] is cut.is_truncated


def test_an_endless_answer_is_read_no_further_than_its_limit(connection: Connection) -> None:
    head, _ = answered(connection, "select * from range(1000000000000000)", max_rows=10)
    assert (head.row_count, head.is_truncated) == (10, True)


@pytest.mark.parametrize("format", list(RowFormat))
def test_bytes_beyond_the_limit_are_left_off_and_told(connection: Connection, format: str) -> None:
    # Hashes: what Parquet cannot make small.
    query = "select range as n, md5(range::varchar) as text from range(9000)"
    head, body = answered(connection, query, format, max_bytes=50_000)
    assert 25_000 < len(body) <= 50_000
    assert head.is_truncated
    numbers = frame_of(body, format)["n"].cast(pl.Int64).to_list()
    assert numbers == list(range(head.row_count))


def test_a_row_that_cannot_fit_is_refused(connection: Connection) -> None:
    with pytest.raises(LimitExceeded, match="one row is more than the 1,000 bytes"):
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
def test_what_cannot_be_answered_says_why(connection: Connection, query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        answered(connection, query)


def test_the_answer_over_http_is_of_the_snapshot_that_is_served(client: TestClient) -> None:
    answer = client.post("/sql", json={"query": QUERY})
    assert answer.status_code == 200
    assert answer.json()["row_count"] == 2
    assert answer.json()["snapshot"] == client.get("/health").json()["snapshot"]
    assert answer.json()["limits"]["max_rows"] == 100


def test_headers_tell_what_other_formats_cannot(client: TestClient) -> None:
    asked = {"query": "from range(9)", "max_rows": 4, "max_seconds": 20}
    answer = client.post("/sql", json=asked, headers={"accept": "text/csv"})
    assert answer.text.split() == ["range", "0", "1", "2", "3"]
    told = {
        name.removeprefix("prunelake-"): value
        for name, value in answer.headers.items()
        if name.startswith("prunelake-")
    }
    assert told == {
        "snapshot": client.get("/health").json()["snapshot"],
        "row-count": "4",
        "truncated": "true",
        "max-rows": "4",
        "max-bytes": "10000000",
        "max-seconds": "20",
        "memory-bytes": "500000000",
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": "select nope"}, 'Binder Error: .*"nope"'),
        ({"query": "drop table lake.runs"}, "DROP is more than reading"),
    ],
)
def test_refused_sql_is_told_with_the_message_of_duckdb(
    client: TestClient, body: dict[str, Any], message: str
) -> None:
    answer = client.post("/sql", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_sql")
    assert re.search(message, answer.json()["error"]["message"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": ""},
        {"query": "x" * 100_001},
        {"query": "select 1", "limit": 1},
        {"query": "select 1", "format": "xml"},
        {"query": "select 1", "max_rows": 0},
        {"query": "select 1", "max_rows": 101},
        {"query": "select 1", "max_rows": True},
        {"query": "select 1", "max_seconds": 0},
        {"query": "select 1", "max_seconds": 30.5},
        {"query": "select 1", "max_seconds": "1"},
    ],
)
def test_a_request_beyond_what_there_is_means_nothing(
    client: TestClient, body: dict[str, Any]
) -> None:
    answer = client.post("/sql", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


def test_only_json_is_taken_so_that_no_form_of_another_site_can_ask(client: TestClient) -> None:
    content = json.dumps({"query": "select 1"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = client.post("/sql", content=content, headers={"content-type": kind})
        assert answer.status_code == 422


def test_a_long_request_is_not_read_to_its_end(client: TestClient) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 100_000
            yield b" " * 100_000

    answer = client.post("/sql", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "1,300,000 bytes" in answer.json()["error"]["message"]


def test_a_query_that_takes_too_long_is_told_its_limit(client: TestClient) -> None:
    bomb = {"query": "select count(*) from range(1000000000000), range(100000)"}
    answer = client.post("/sql", json=bomb | {"max_seconds": 2})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "limit_exceeded")
    assert answer.json()["error"]["message"].startswith("this takes longer than 2 s")


def test_a_process_that_waits_reads_what_was_published_meanwhile(tmp_path: Path) -> None:
    def add(name: str) -> None:
        run_row, rows = small_run(name)
        write(tmp_path, run_row, **{name: frame.to_dicts() for name, frame in rows.items()})
        publish(tmp_path, analyse)

    add("first")
    count = {"query": "select count(*) as runs from runs"}
    with api_client(tmp_path, sql=True, sql_processes=1, sql_max_seconds=30) as client:
        before = client.post("/sql", json=count).json()
        add("second")
        after = client.post("/sql", json=count).json()
        assert after["snapshot"] == client.get("/health").json()["snapshot"] != before["snapshot"]
    assert (before["rows"], after["rows"]) == ([{"runs": 1}], [{"runs": 2}])


def test_sql_can_be_turned_off(lake: Path) -> None:
    with api_client(lake, sql=False) as client:
        answer = client.post("/sql", json={"query": "select 1"})
    assert answer.status_code == 404
    assert "PRUNELAKE_API_SQL=true turns it on" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("settings", "headers", "status"),
    [
        ({"caller": "203.0.113.9"}, {}, 401),
        ({"host": "lake.example"}, {}, 401),
        ({"token": "secret"}, {}, 401),
        ({"token": "secret"}, {"authorization": "Bearer wrong"}, 401),
    ],
)
def test_who_may_not_ask_may_not_ask_sql(
    lake: Path, settings: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    with api_client(lake, sql=True, sql_processes=1, **settings) as client:
        answer = client.post("/sql", json={"query": "select 1"}, headers=headers)
    assert answer.status_code == status


def test_the_token_opens_sql_to_others(lake: Path) -> None:
    asked = {"caller": "203.0.113.9", "host": "lake.example", "token": "secret"}
    with api_client(lake, sql=True, sql_max_seconds=30, **asked) as client:
        bearer = {"authorization": "Bearer secret"}
        assert client.post("/sql", json={"query": "select 1"}, headers=bearer).status_code == 200


def test_without_a_snapshot_there_is_nothing_to_ask(tmp_path: Path) -> None:
    with api_client(tmp_path, sql=True, sql_processes=1) as client:
        answer = client.post("/sql", json={"query": "select 1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_snapshot")


def asking(query: str, seconds: float) -> SqlRequest:
    return SqlRequest(
        query=query,
        format=RowFormat.csv,
        max_rows=1,
        max_bytes=100,
        max_seconds=seconds,
        memory_bytes=500_000_000,
    )


def test_a_process_that_ends_while_it_waits_is_replaced(lake: Path) -> None:
    async def killed() -> bytes:
        guard = WorkerPool(lake, ApiSettings(sql_processes=1))
        async with guard.started():
            await guard.execute(asking("select 1", 30))
            process = await guard._idle.get()
            process.kill()
            await process.wait()
            guard._idle.put_nowait(process)
            _, body = await guard.execute(asking("select 2 as x", 30))
        assert not guard._alive
        return body

    assert asyncio.run(killed()) == b"x\n2\n"


def test_where_no_process_starts_it_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def late() -> None:
        guard = WorkerPool(tmp_path / "late", ApiSettings(sql_processes=1))
        async with guard.started():
            with pytest.raises(ServerBusy, match=r"within 0\.2 s none of the 1 processes"):
                await guard.execute(asking("select 1", 0.2))
            (tmp_path / "late").mkdir()
            with pytest.raises(NoSnapshot):
                await guard.execute(asking("select 1", 30))

    asyncio.run(late())
    assert "could not be started" in caplog.text
