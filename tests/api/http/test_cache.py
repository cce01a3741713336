"""ETag and 304, cached answers, and the switch to a new snapshot."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.responses import Response
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from prunelake.analysis.analyse import analyse
from prunelake.api.http.cache import CacheMiddleware
from prunelake.api.http.code_id import code_id
from prunelake.api.http.disconnects import DisconnectMiddleware
from prunelake.api.queries.snapshots.snapshot import LatestSnapshot
from prunelake.api.queries.views.view_rows import RowPage, row_page
from prunelake.errors import NoSnapshot
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import publish
from tests.support.api.api_client import api_client
from tests.support.runs.example_runs import explained_run

PLAIN = {"Accept-Encoding": "identity"}
"""Without compression, which makes the ETag weak."""


@pytest.fixture(scope="module")
def published_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder, "first", task="boolq")
    publish(folder, analyse)
    return folder


@pytest.fixture
def lake(published_lake: Path, tmp_path: Path) -> Path:
    """A copy of the published lake, to which a test may add runs."""
    return Path(shutil.copytree(published_lake, tmp_path / "lake"))


@pytest.fixture
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


def snapshot_of(client: TestClient) -> str:
    found: str = client.get("/health").json()["snapshot"]
    return found


def tag_of(client: TestClient) -> str:
    return f"{snapshot_of(client)}-{code_id()}"


def test_the_etag_is_the_snapshot_and_the_code(client: TestClient) -> None:
    answer = client.get("/verdicts", headers=PLAIN)
    assert answer.headers["etag"] == f'"{tag_of(client)}"'
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.json()["snapshot"] == snapshot_of(client)


@pytest.mark.parametrize("tag", ['"{0}"', 'W/"{0}"', '"other", "{0}"', "*"])
def test_a_client_with_the_current_answer_gets_304(client: TestClient, tag: str) -> None:
    known = {"If-None-Match": tag.format(tag_of(client))}
    for path in ("/verdicts", "/models", "/charts/confidence.svg"):
        answer = client.get(path, headers=known)
        assert (answer.status_code, answer.content) == (304, b""), path
        assert answer.headers["etag"] == f'"{tag_of(client)}"'
        assert "content-type" not in answer.headers


def test_a_client_with_an_old_answer_gets_the_current_answer(client: TestClient) -> None:
    assert client.get("/verdicts", headers={"If-None-Match": '"other"'}).status_code == 200


def test_an_error_is_never_answered_with_304(client: TestClient) -> None:
    known = {"If-None-Match": f'"{tag_of(client)}"'}
    answer = client.get("/views/nonsense", headers=known)
    assert answer.status_code == 404
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


def test_two_formats_of_one_address_have_two_tags(client: TestClient) -> None:
    json = client.get("/verdicts")
    csv = client.get("/verdicts", headers={"Accept": "text/csv"})
    assert json.headers["etag"] != csv.headers["etag"]
    assert "Accept" in csv.headers["vary"]
    known = {"If-None-Match": json.headers["etag"], "Accept": "text/csv"}
    assert client.get("/verdicts", headers=known).status_code == 200


def test_head_is_get_without_its_body(client: TestClient) -> None:
    head, get = client.head("/verdicts"), client.get("/verdicts", headers=PLAIN)
    assert head.content == b""
    assert head.status_code == 200
    assert head.headers == get.headers


def test_a_new_snapshot_is_picked_up_without_a_restart(lake: Path, client: TestClient) -> None:
    first = client.get("/views/runs")
    before, old_tag = first.json(), first.headers["etag"]
    explained_run(lake, "second", task="rte")
    assert client.get("/views/runs").json() == before
    publish(lake, analyse)
    after = client.get("/views/runs")
    assert {row["task"] for row in after.json()["rows"]} == {"boolq", "rte"}
    assert after.headers["etag"] != old_tag
    known = {"If-None-Match": old_tag}
    assert client.get("/views/runs", headers=known).status_code == 200


def test_the_code_id_changes_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "charts").mkdir()
    file = tmp_path / "charts" / "chart.py"
    file.write_text("WIDTH = 300")
    before = code_id(tmp_path)
    assert code_id(tmp_path) == before
    file.write_text("WIDTH = 301")
    assert code_id(tmp_path) != before


def test_a_page_of_an_old_snapshot_is_refused(lake: Path, client: TestClient) -> None:
    cursor = client.get("/views/metrics", params={"limit": 1}).json()["next"]
    explained_run(lake, "second")
    publish(lake, analyse)
    answer = client.get("/views/metrics", params={"limit": 1, "cursor": cursor})
    assert answer.status_code == 410
    assert answer.json()["error"]["code"] == "outdated"


def test_a_reader_of_the_old_snapshot_can_finish(lake: Path) -> None:
    snapshots = LatestSnapshot(lake)
    with snapshots.current().cursor() as old:
        explained_run(lake, "second")
        publish(lake, analyse)
        assert old.sql("select count(*) from runs").fetchall() == [(1,)]
        with snapshots.current().cursor() as new:
            assert new.sql("select count(*) from runs").fetchall() == [(2,)]
        assert old.sql("select count(*) from runs").fetchall() == [(1,)]


def test_an_answer_is_kept_until_its_snapshot_is_replaced(
    lake: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = client.get("/verdicts").json()

    def refuse(*_: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("prunelake.api.queries.snapshots.snapshot.Snapshot.cursor", refuse)
    assert client.get("/verdicts").json() == kept
    assert client.get("/verdicts?limit=1").status_code == 500
    explained_run(lake, "second")
    publish(lake, analyse)
    assert client.get("/verdicts").status_code == 500


def test_the_oldest_answers_are_dropped_when_the_cache_is_full(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(*given: Any) -> RowPage:
        asked.append(given)
        return row_page(*given)

    monkeypatch.setattr("prunelake.api.routes.data.row_page", counted)
    with api_client(lake) as client:
        size = len(client.get("/verdicts?limit=1").content)
    with api_client(lake, cache_bytes=size * 9) as client:
        asked.clear()
        for level in range(1, 40):
            client.get(f"/verdicts?limit=1&n_gte={-level}")
        client.get("/verdicts?limit=1&n_gte=-39")
        assert len(asked) == 39
        client.get("/verdicts?limit=1&n_gte=-1")
        assert len(asked) == 40


def test_without_a_snapshot_the_error_names_the_command(tmp_path: Path) -> None:
    with api_client(tmp_path) as client:
        answer = client.get("/verdicts")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_snapshot"
        assert "prunelake publish" in answer.json()["error"]["message"]
        assert client.get("/").status_code == 200
        explained_run(tmp_path, "first")
        publish(tmp_path, analyse)
        assert client.get("/verdicts").status_code == 200


def test_a_broken_snapshot_is_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / SNAPSHOT_FILE).write_bytes(b"not a database" * 1000)
    with pytest.raises(NoSnapshot, match="cannot be read"):
        LatestSnapshot(tmp_path).current()


def test_a_snapshot_of_other_views_is_refused_and_the_old_snapshot_stays(
    lake: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = client.get("/health").json()
    explained_run(lake, "second")
    with monkeypatch.context() as patch:
        for module in ("publish", "snapshot_file"):
            patch.setattr(f"prunelake.lake.{module}.views_hash", lambda: "0" * 16)
        publish(lake, analyse)
    assert client.get("/health").json() == before
    with pytest.raises(NoSnapshot, match="another version"):
        LatestSnapshot(lake).current()


class Readers:
    """Requests for one address through the cache, to an app that answers when it is told to."""

    def __init__(self, snapshot_id: str = "0") -> None:
        self.may_answer = asyncio.Event()
        self.has_begun, self.was_cancelled = asyncio.Event(), asyncio.Event()
        self.count = 0
        snapshots = SimpleNamespace(current=lambda: SimpleNamespace(id=snapshot_id))
        cache = CacheMiddleware(self.app, cast("LatestSnapshot", snapshots), 1000)
        self.cache = DisconnectMiddleware(cache)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1
        self.has_begun.set()
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise
        await Response("drawn")(scope, receive, send)

    async def ask(self, leaves: asyncio.Event) -> list[Message]:
        sent: list[Message] = []

        async def receive() -> Message:
            await leaves.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/charts/a.svg", "headers": []}
        await self.cache(scope | {"query_string": b""}, receive, send)
        return sent


def test_work_is_cancelled_when_all_its_readers_have_left() -> None:
    async def leave() -> None:
        readers, left, stays = Readers(), asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(readers.ask(left))
        two = asyncio.create_task(readers.ask(left))
        await readers.has_begun.wait()
        left.set()
        assert await one == await two == []
        await readers.was_cancelled.wait()
        # A new reader does not get the cancelled answer.
        readers.may_answer.set()
        assert (await readers.ask(stays))[1]["body"] == b"drawn"
        assert readers.count == 2

    asyncio.run(leave())


def test_work_continues_for_readers_who_stay() -> None:
    async def leave() -> None:
        readers, left, stays = Readers(), asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(readers.ask(left))
        two = asyncio.create_task(readers.ask(stays))
        await readers.has_begun.wait()
        left.set()
        assert await one == []
        readers.may_answer.set()
        assert (await two)[1]["body"] == b"drawn"
        assert readers.count == 1

    asyncio.run(leave())
