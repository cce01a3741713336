"""Admitted clients, the headers of every answer, and the common shape of errors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from prunelake.analysis.analyse import analyse
from prunelake.api.http.problems import Problem
from prunelake.lake.publish import publish
from tests.support.api.api_client import api_client
from tests.support.runs.example_runs import explained_run

TOKEN = "s3cret-t\u00f6ken"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder)
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def guarded(lake: Path) -> Iterator[TestClient]:
    """A server with a token, and a client on another machine."""
    with api_client(lake, caller="203.0.113.9", host="lake.example", token=TOKEN) as client:
        yield client


def bearer(token: str, scheme: str = "Bearer") -> dict[bytes, bytes]:
    return {b"Authorization": f"{scheme} {token}".encode()}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_every_address(guarded: TestClient, scheme: str) -> None:
    assert guarded.get("/verdicts", headers=bearer(TOKEN, scheme)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer(TOKEN, "Basic"),
        {b"Authorization": TOKEN.encode()},
    ],
)  # fmt: skip
def test_without_the_token_every_address_is_refused(
    guarded: TestClient, headers: dict[bytes, bytes]
) -> None:
    for path in ("/verdicts", "/models", "/openapi.json", "/charts/confidence.svg", "/nonsense"):
        answer = guarded.get(path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "refused"


def test_the_page_and_the_health_need_no_token(guarded: TestClient) -> None:
    for path in ("/", "/health"):
        assert guarded.get(path).status_code == 200


def test_the_token_is_compared_in_constant_time(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    def compare(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert guarded.get("/models", headers=bearer(TOKEN)).status_code == 401
    assert compared == [(TOKEN.encode(), TOKEN.encode())]


@pytest.mark.parametrize("caller", ["203.0.113.9", "10.0.0.1", "::ffff:203.0.113.9", "testclient"])
def test_without_a_token_the_server_answers_localhost_only(lake: Path, caller: str) -> None:
    with api_client(lake, caller=caller) as client:
        answer = client.get("/models")
    assert answer.status_code == 401
    assert "PRUNELAKE_API_TOKEN" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["lake.example", "127.0.0.1.lake.example", "localhost.example"])
def test_a_foreign_host_name_is_refused(lake: Path, host: str) -> None:
    with api_client(lake, host=host) as client:
        answer = client.get("/models")
    assert answer.status_code == 401
    assert "localhost" in answer.json()["error"]["message"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "127.1.2.3"])
def test_names_of_localhost_are_accepted(lake: Path, host: str) -> None:
    with api_client(lake, host=host, caller="::1") as client:
        assert client.get("/models").status_code == 200


def test_every_answer_has_the_safe_headers(
    lake: Path, guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_client(lake) as client:
        answers = [client.get(path) for path in ("/", "/verdicts", "/nonsense", "/verdicts?x=1")]
        answers += [client.post("/verdicts"), guarded.get("/verdicts")]
        cursor = "prunelake.api.queries.snapshots.snapshot.Snapshot.cursor"
        monkeypatch.setattr(cursor, lambda *_: 1 / 0)
        answers.append(client.get("/verdicts?limit=7"))
    assert [answer.status_code for answer in answers] == [200, 200, 404, 422, 405, 401, 500]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        if answer.status_code >= 400:
            Problem.model_validate(answer.json(), strict=True, extra="forbid")


def test_a_server_error_reveals_no_details(
    lake: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("prunelake.api.queries.snapshots.snapshot.Snapshot.cursor", fail)
    with api_client(lake) as client:
        answer = client.get("/verdicts?limit=8")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text
    assert "a secret detail" in caplog.text
