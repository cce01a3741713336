"""The server asks for the first screen of each new snapshot, before a reader does."""

import asyncio
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from prunelake.api.http import first_screen
from prunelake.api.http.first_screen import prepare_first_screens, request_first_screen
from prunelake.errors import NoSnapshot
from tests.support.api.api_client import api_client


def test_the_first_screen_is_read_from_memory_and_the_preparation_is_not_counted(
    sql_lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_client(sql_lake, token="secret") as client:
        assert client.portal is not None
        client.portal.call(request_first_screen, client.app)
        client.headers["Authorization"] = "Bearer secret"

        def refuse(*_: object) -> None:
            raise AssertionError("asked again")

        monkeypatch.setattr("prunelake.api.queries.snapshots.snapshot.Snapshot.cursor", refuse)
        monkeypatch.setattr("gzip.compress", refuse)
        run = client.get("/findings").json()
        chosen = {name: run[name] for name in ("run_id", "level", "metric")}
        for path, names in {
            **dict.fromkeys(("/models", "/map", "/page/vega.js"), ()),
            "/findings": ("run_id",),
            "/charts/levels.json": ("run_id", "metric"),
            "/charts/reliability.json": ("run_id", "level"),
        }.items():
            answer = client.get(path, params={name: chosen[name] for name in names})
            assert answer.status_code == 200, path
        assert client.get("/charts/flips.json", params={"run_id": "other"}).status_code == 500
        monkeypatch.undo()
        counted = client.get("/metrics").text
    assert 'route="/models",status="200",le="+Inf"} 1' in counted
    assert 'route="/health"' not in counted


def test_every_new_snapshot_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a snapshot that cannot be read."""
    found = iter(["none", "a", "a", "b", "b", "end"])
    prepared: list[str] = []
    latest = ""

    class Snapshots:
        id = property(lambda _: latest)

        def current(self) -> Any:
            nonlocal latest
            latest = next(found)
            if latest == "none":
                raise NoSnapshot("not published yet")
            if latest == "end":
                raise asyncio.CancelledError
            return self

    async def request(_: ASGIApp) -> None:
        prepared.append(latest)
        if latest == "a":
            raise duckdb.IOException("a damaged block")

    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise AssertionError("not asked")

    monkeypatch.setattr(first_screen, "POLL_SECONDS", 0)
    monkeypatch.setattr(first_screen, "request_first_screen", request)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(prepare_first_screens(app, cast(Any, Snapshots())))
    assert prepared == ["a", "b"]
