"""/sql: headers, refusals, limits, tokens, and queries in an address."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from prunelake.api.sandbox import worker_pool
from tests.support.api.api_client import api_client

QUERY = "select run_id, level, is_correct from predictions order by level"


@pytest.fixture(scope="module")
def client(sql_lake: Path) -> Iterator[TestClient]:
    with api_client(
        sql_lake, sql=True, sql_max_rows=100, sql_max_seconds=30, sql_memory_bytes=500_000_000
    ) as found:
        yield found


def test_the_answer_comes_from_the_served_snapshot(client: TestClient) -> None:
    answer = client.post("/sql", json={"query": QUERY})
    assert answer.status_code == 200
    assert answer.json()["row_count"] == 2
    assert answer.json()["snapshot"] == client.get("/health").json()["snapshot"]
    assert answer.json()["limits"]["max_rows"] == 100


def test_headers_carry_the_fields_that_other_formats_lack(client: TestClient) -> None:
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
        ({"query": "drop table lake.runs"}, "DROP does more than read"),
    ],
)
def test_refused_sql_has_the_message_of_duckdb(
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
def test_invalid_requests_are_refused(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/sql", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


def test_only_json_is_accepted_so_that_forms_of_other_sites_are_refused(client: TestClient) -> None:
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


def test_the_error_of_a_slow_query_names_its_limit(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(worker_pool, "_send_request", endless)
    answer = client.post("/sql", json={"query": "select 1", "max_seconds": 0.1})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "limit_exceeded")
    assert answer.json()["error"]["message"].startswith("the query takes longer than 0.1 s")


def test_sql_can_be_turned_off(sql_lake: Path) -> None:
    with api_client(sql_lake, sql=False) as client:
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
def test_sql_is_refused_without_the_token(
    sql_lake: Path, settings: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    with api_client(sql_lake, sql=True, sql_processes=1, **settings) as client:
        answer = client.post("/sql", json={"query": "select 1"}, headers=headers)
    assert answer.status_code == status


def test_the_token_admits_other_clients_to_sql(sql_lake: Path) -> None:
    asked = {"caller": "203.0.113.9", "host": "lake.example", "token": "secret"}
    with api_client(sql_lake, sql=True, sql_processes=1, sql_max_seconds=30, **asked) as client:
        bearer = {"authorization": "Bearer secret"}
        assert client.post("/sql", json={"query": "select 1"}, headers=bearer).status_code == 200


def test_without_a_snapshot_sql_is_refused(tmp_path: Path) -> None:
    with api_client(tmp_path, sql=True, sql_processes=1) as client:
        answer = client.post("/sql", json={"query": "select 1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_snapshot")


def test_a_query_in_an_address_is_answered_like_a_posted_query(client: TestClient) -> None:
    posted = client.post("/sql", json={"query": QUERY, "max_rows": 1}).json()
    asked = {"query": QUERY, "max_rows": "1"}
    answer = client.get("/sql", params=asked)
    assert answer.json() == posted
    # Another query would need another process; this one is kept until the next snapshot.
    assert client.get("/sql", params=asked).headers["etag"] == answer.headers["etag"]
    file = client.get("/sql.csv", params=asked)
    assert file.text.splitlines()[0] == "run_id,level,is_correct"
    assert file.headers["prunelake-truncated"] == "true"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "query: Field required"),
        ({"query": "select 1", "max_rows": "101"}, "max_rows: "),
        ({"query": "select 1", "max_seconds": "31"}, "max_seconds: "),
        ({"query": ["select 1", "select 2"]}, "query is given twice"),
        ({"query": "select 1", "spreadsheet": "true"}, "is for csv"),
        ({"query": "select 1", "limit": "5"}, "takes query, spreadsheet, max_rows, max_seconds"),
    ],
)
def test_an_invalid_address_is_refused(
    client: TestClient, parameters: dict[str, Any], words: str
) -> None:
    answer = client.get("/sql", params=parameters)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    assert words in answer.json()["error"]["message"]
