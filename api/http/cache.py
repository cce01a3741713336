"""Caches answers while their snapshot is the latest, and tags them for other caches."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunelake.errors import NoSnapshot

from ..queries.snapshots.snapshot import LatestSnapshot
from .code_id import code_id
from .problems import response_to
from .ranges import ranged_answer

UNCACHED_PATHS = ("/page/", "/openapi.json", "/metrics")
"""Paths whose answers do not depend on the snapshot alone."""

CacheKey = tuple[str, ...]
CachedResponse = tuple[Message, bytes]


@dataclass
class PendingAnswer:
    """An answer in the making, and the number of requests that wait for it."""

    computing: asyncio.Future[CachedResponse]
    waiting_count: int = 0


class CacheMiddleware:
    """ASGI middleware around the routes that read the snapshot.

    It gives each request one snapshot (`request.state.snapshot`) and answers HEAD like GET. It
    tags each answer with the snapshot and the code (the ETag), answers 304 to clients that have
    this answer, and sends parts of answers (`ranges`). It keeps the latest answers up to `capacity`
    bytes.
    """

    def __init__(self, app: ASGIApp, snapshots: LatestSnapshot, capacity: int) -> None:
        self.app = app
        self.snapshots = snapshots
        self.capacity = capacity
        self.code_id = code_id()
        self._answers: OrderedDict[CacheKey, CachedResponse] = OrderedDict()
        self._pending: dict[CacheKey, PendingAnswer] = {}
        self._size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if (
            scope["type"] != "http"
            or scope["path"] == "/"
            or scope["path"].startswith(UNCACHED_PATHS)
        ):
            await self.app(scope, receive, send)
            return
        try:
            snapshot = self.snapshots.current()
        except NoSnapshot as error:
            await response_to(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["snapshot"] = snapshot
        if scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        key = (snapshot.id, scope["path"], query, headers.get("accept", ""))
        answer = self._answers.get(key)
        if answer is None:
            answer = await self._shared_answer(key, scope, receive)
        else:
            self._answers.move_to_end(key)
        await _send_response(answer, scope["method"], headers, send)

    async def _shared_answer(self, key: CacheKey, scope: Scope, receive: Receive) -> CachedResponse:
        """The answer for which simultaneous equal requests wait together.

        When all of these clients have left, the computation stops.
        """
        pending = self._pending.get(key)
        if pending is None:
            computing = asyncio.ensure_future(self._computed_answer(key, scope, receive))
            pending = self._pending[key] = PendingAnswer(computing)
        pending.waiting_count += 1
        try:
            return await asyncio.shield(pending.computing)
        finally:
            pending.waiting_count -= 1
            if pending.waiting_count == 0:
                pending.computing.cancel()
                if self._pending.get(key) is pending:
                    del self._pending[key]

    async def _computed_answer(
        self, key: CacheKey, scope: Scope, receive: Receive
    ) -> CachedResponse:
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(dict(scope) | {"method": "GET"}, receive, collect)
        answer = start, b"".join(parts)
        # A process for SQL may have read a snapshot that is newer than the request.
        is_same_snapshot = Headers(scope=start).get("prunelake-snapshot", key[0]) == key[0]
        if is_same_snapshot:
            self._tag(start, key[0])
        if start["status"] == 200 and is_same_snapshot:
            self._keep(key, answer)
        return answer

    def _tag(self, start: Message, snapshot_id: str) -> None:
        headers = MutableHeaders(scope=start)
        headers.setdefault("Cache-Control", "no-cache" if start["status"] == 200 else "no-store")
        headers["Vary"] = "Accept, Authorization"
        headers["PruneLake-Snapshot"] = snapshot_id
        if start["status"] == 200:
            # A cache must not confuse two formats of one address.
            negotiated = headers.get("PruneLake-Format")
            tag = "-".join(filter(None, (snapshot_id, self.code_id, negotiated)))
            headers["ETag"] = f'"{tag}"'

    def _keep(self, key: CacheKey, answer: CachedResponse) -> None:
        size = len(answer[1])
        # One large answer must not displace all other answers; but a reader may fetch many ranges
        # of a large file.
        if size > self.capacity // 2:
            return
        replaced = self._answers.pop(key, None)
        self._size += size - (len(replaced[1]) if replaced else 0)
        self._answers[key] = answer
        while self._size > self.capacity:
            _, (_, body) = self._answers.popitem(last=False)
            self._size -= len(body)


async def _send_response(answer: CachedResponse, method: str, request: Headers, send: Send) -> None:
    start, body = answer
    known = request.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
    tag = Headers(scope=start).get("etag")
    if tag is not None and (tag in tags or "*" in tags):
        kept = [
            (name, value)
            for name, value in start["headers"]
            if name.lower() not in (b"content-length", b"content-type")
        ]
        start, body = dict(start) | {"status": 304, "headers": kept}, b""
    elif tag is not None:
        start, body = ranged_answer(start, body, request if method == "GET" else Headers())
    await send(dict(start) | {"headers": list(start["headers"])})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
