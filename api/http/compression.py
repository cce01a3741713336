"""Compresses large texts with gzip for clients that accept it."""

import asyncio
import gzip
from collections import OrderedDict

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .negotiation import quality_values

SMALLEST = 1024
"""Smaller answers, in bytes, fit into one packet anyway."""

LARGEST_AT_ONCE = 65_536
"""Larger answers are compressed in a thread, so that other requests do not wait."""

TEXT_TYPES = (
    *("application/json", "application/x-ndjson", "image/svg+xml", "text/"),
    *("application/javascript", "application/openmetrics-text"),
)
"""The beginnings of the media types that gzip makes much smaller."""

LEVEL = 5


class CompressionMiddleware:
    """ASGI middleware that compresses whole answers, and keeps up to `capacity` bytes of them.

    A compressed answer has a weak ETag: its bytes are not those that byte ranges count.
    """

    def __init__(self, app: ASGIApp, capacity: int) -> None:
        self.app = app
        self.capacity = capacity
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        encodings = Headers(scope=scope).get("accept-encoding", "")
        # HEAD describes the plain answer, whose size readers of ranges need.
        is_compressing = scope["method"] != "HEAD" and _accepts_gzip(encodings)
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_large_text(message):
                headers = MutableHeaders(raw=list(message["headers"]))
                headers.add_vary_header("Accept-Encoding")
                message = dict(message) | {"headers": headers.raw}
                if is_compressing:
                    start.update(message)
                    return
            if not start:
                await send(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._send_compressed(start, b"".join(parts), send)

        await self.app(scope, receive, collect)

    async def _send_compressed(self, start: Message, body: bytes, send: Send) -> None:
        headers = MutableHeaders(raw=start["headers"])
        tag = headers.get("etag")
        compressed = await self._compressed(body, is_kept=tag is not None)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(compressed))
        del headers["accept-ranges"]
        if tag is not None:
            headers["ETag"] = f"W/{tag.removeprefix('W/')}"
        await send(start)
        await send({"type": "http.response.body", "body": compressed})

    async def _compressed(self, body: bytes, is_kept: bool) -> bytes:
        if body in self._kept:
            self._kept.move_to_end(body)
            return self._kept[body]
        if len(body) > LARGEST_AT_ONCE:
            compressed = await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
        else:
            compressed = gzip.compress(body, LEVEL, mtime=0)
        size = len(body) + len(compressed)
        if is_kept and size <= self.capacity // 8 and body not in self._kept:
            self._kept[body] = compressed
            self._size += size
            while self._size > self.capacity:
                old, old_compressed = self._kept.popitem(last=False)
                self._size -= len(old) + len(old_compressed)
        return compressed


def _accepts_gzip(accept_encoding: str) -> bool:
    qualities = quality_values(accept_encoding)
    return qualities.get("gzip", qualities.get("*", 0.0)) > 0


def _is_large_text(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return (
        start["status"] == 200
        and "content-encoding" not in headers
        and int(headers.get("content-length", "0")) >= SMALLEST
        and headers.get("content-type", "").startswith(TEXT_TYPES)
    )
