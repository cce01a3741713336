"""An answer holds as long as its snapshot: it is kept, and tagged for those who keep it."""

import asyncio
from collections import OrderedDict

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prunelake.errors import NoSnapshot

from ..queries.snapshot import LatestSnapshot
from .problems import response_to

UNCACHED_PATHS = ("/page/", "/openapi.json", "/metrics")
"""What does not depend on the snapshot alone."""

CacheKey = tuple[str, ...]
CachedResponse = tuple[Message, bytes]


class CacheMiddleware:
    """ASGI middleware around what is read from the snapshot.

    It hands the routes one snapshot a request (`request.state.snapshot`), answers HEAD as GET,
    gives each answer the snapshot's id as ETag, says 304 to who has it, and keeps the last answers,
    up to `capacity` bytes.
    """

    def __init__(self, app: ASGIApp, snapshots: LatestSnapshot, capacity: int) -> None:
        self.app = app
        self.snapshots = snapshots
        self.capacity = capacity
        self._kept: OrderedDict[CacheKey, CachedResponse] = OrderedDict()
        self._asking: dict[CacheKey, asyncio.Future[CachedResponse]] = {}
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
        answer = self._kept.get(key)
        if answer is None:
            # Who asks the same at the same time waits for the same answer.
            asking = self._asking.get(key)
            if asking is None:
                asking = self._asking[key] = asyncio.ensure_future(self._asked(key, scope, receive))
                asking.add_done_callback(lambda _: self._asking.pop(key))
            answer = await asyncio.shield(asking)
        else:
            self._kept.move_to_end(key)
        await _send_response(answer, scope["method"], headers.get("if-none-match", ""), send)

    async def _asked(self, key: CacheKey, scope: Scope, receive: Receive) -> CachedResponse:
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(dict(scope) | {"method": "GET"}, receive, collect)
        answer = start, b"".join(parts)
        self._tag(start, key[0])
        if start["status"] == 200:
            self._keep(key, answer)
        return answer

    def _tag(self, start: Message, snapshot_id: str) -> None:
        headers = MutableHeaders(scope=start)
        headers.setdefault("Cache-Control", "no-cache" if start["status"] == 200 else "no-store")
        headers["Vary"] = "Accept, Authorization"
        headers["PruneLake-Snapshot"] = snapshot_id
        if start["status"] == 200:
            # Of two formats of one address, a cache must not take one for the other.
            negotiated = headers.get("PruneLake-Format")
            tag = f"{snapshot_id}-{negotiated}" if negotiated else snapshot_id
            headers["ETag"] = f'"{tag}"'

    def _keep(self, key: CacheKey, answer: CachedResponse) -> None:
        size = len(answer[1])
        # One answer must not push out all others.
        if size > self.capacity // 8:
            return
        replaced = self._kept.pop(key, None)
        self._size += size - (len(replaced[1]) if replaced else 0)
        self._kept[key] = answer
        while self._size > self.capacity:
            _, (_, body) = self._kept.popitem(last=False)
            self._size -= len(body)


async def _send_response(
    answer: CachedResponse, method: str, if_none_match: str, send: Send
) -> None:
    start, body = answer
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    tag = Headers(scope=start).get("etag")
    if tag is not None and (tag in tags or "*" in tags):
        kept = [
            (name, value)
            for name, value in start["headers"]
            if name.lower() not in (b"content-length", b"content-type")
        ]
        start, body = dict(start) | {"status": 304, "headers": kept}, b""
    await send(dict(start) | {"headers": list(start["headers"])})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
