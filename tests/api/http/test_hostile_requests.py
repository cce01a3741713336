"""Malformed headers and cursors are answered with a client error, never with a 500."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from prunelake.api.http.problems import Problem
from tests.support.api.api_client import api_client
from tests.support.api.hostile_requests import CURSORS, HEADERS, HOSTS, header_bytes

TOKEN = {b"Authorization": b"Bearer secret"}


@pytest.fixture(scope="module", params=[None, "secret"])
def client(sql_lake: Path, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    with api_client(sql_lake, token=request.param) as client:
        yield client


@pytest.mark.parametrize("host", HOSTS)
def test_a_malformed_host_is_refused(client: TestClient, host: str) -> None:
    for path in ("/health", "/views/metrics?limit=1", "/nowhere", "/page/nothing"):
        answer = client.get(path, headers=TOKEN | {b"Host": header_bytes(host)})
        assert answer.status_code == 400, path
        error = Problem.model_validate_json(answer.content, strict=True).error
        assert (error.code, "Host" in error.message) == ("bad_request", True)


def test_no_value_of_a_header_breaks_the_server(client: TestClient) -> None:
    for name, values in HEADERS.items():
        for value in values:
            for path in ("/health", "/views/metrics?limit=1&format=csv", "/"):
                headers = TOKEN | {name.encode(): header_bytes(value)}
                answer = client.get(path, headers=headers)
                assert answer.status_code < 500, (name, value[:50], answer.text)


def test_an_invented_cursor_is_refused(client: TestClient) -> None:
    for cursor in CURSORS:
        answer = client.get("/views/metrics", params={"cursor": cursor}, headers=TOKEN)
        assert answer.status_code in (410, 422), cursor[:50]
        assert Problem.model_validate_json(answer.content, strict=True).error.message
