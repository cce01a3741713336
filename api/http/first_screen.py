"""Asks for the first screen of each new snapshot, so that its first reader need not wait."""

import asyncio
import gzip
import logging
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope

from prunelake.errors import NoSnapshot

from ..queries.snapshots.snapshot import LatestSnapshot

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""The longest delay in seconds before the server prepares a new snapshot."""

OWN_REQUEST = "prunelake.own_request"
"""The mark of a request of the server to itself: it needs no token, and is not counted."""


async def prepare_first_screens(app: ASGIApp, snapshots: LatestSnapshot) -> None:
    """Prepare the first screen of every new snapshot until cancelled."""
    prepared = None
    while True:
        try:
            latest = snapshots.current().id
        except NoSnapshot:
            latest = None
        if latest not in (None, prepared):
            prepared = latest
            try:
                await request_first_screen(app)
            except Exception:  # readers get the error, too; later snapshots are still prepared
                log.exception("the first screen of snapshot %s could not be prepared", latest)
        await asyncio.sleep(POLL_SECONDS)


async def request_first_screen(app: ASGIApp) -> None:
    """Send the requests of the page as it opens without a choice in its address.

    Caches keep the answers. A request whose address the page no longer uses would still fill the
    caches of rows and charts.
    """
    await _answer(app, "/page/vega.js")
    for path in ("/models", "/health"):
        await _answer(app, path)
    charts = orjson.loads(await _answer(app, "/charts"))
    findings = orjson.loads(await _answer(app, "/findings"))
    if "run_id" in findings:  # an empty lake has an error
        run = {"run_id": findings["run_id"]}
        chosen = {name: findings[name] for name in ("level", "metric")}
        await _answer(app, "/findings", run)
        at_level = run | {"level": chosen["level"], "limit": 1000}
        await _answer(app, "/views/headline_metrics", at_level)
        for chart in charts:
            taken = {name: chosen[name] for name in chart["takes"]}
            await _answer(app, f"/charts/{chart['name']}.json", run | taken)
        await _answer(app, "/recommendations", {"model": findings["model"]})
    await _answer(app, "/map")


async def _answer(app: ASGIApp, path: str, parameters: dict[str, Any] | None = None) -> bytes:
    """The body of the answer to a browser, whose compressed bytes are kept."""
    headers = [(b"host", b"localhost"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip")]
    scope: Scope = {
        **{"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http"},
        **{"path": path, "query_string": urlencode(parameters or {}).encode()},
        **{"headers": headers, OWN_REQUEST: True},
    }
    parts: list[bytes] = []
    encoding = ""

    async def receive() -> Message:
        return await asyncio.Future()  # the connection stays open

    async def send(message: Message) -> None:
        nonlocal encoding
        if message["type"] == "http.response.start":
            encoding = Headers(raw=message["headers"]).get("content-encoding", "")
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    body = b"".join(parts)
    return gzip.decompress(body) if encoding == "gzip" else body
