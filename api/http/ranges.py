"""Byte ranges: readers of Parquet files fetch the end first, then the columns that they need."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message

RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})", re.ASCII)


def ranged_answer(start: Message, body: bytes, request: Headers) -> tuple[Message, bytes]:
    """The part of a 200 answer for which a request asks: 206, or 416 if it lies beyond the end.

    A request without a range gets the whole answer. So does a request for several ranges, for a
    malformed range, or with another version in If-Range.
    """
    headers = MutableHeaders(raw=list(start["headers"]))
    headers["Accept-Ranges"] = "bytes"
    start = dict(start) | {"headers": headers.raw}
    found = RANGE.fullmatch(request.get("range", "").strip())
    known = request.get("if-range", headers.get("etag"))
    if found is None or not any(found.groups()) or known != headers.get("etag"):
        return start, body
    first, last = _bounds(found[1], found[2], len(body))
    if first > last:
        headers["Content-Range"] = f"bytes */{len(body)}"
        headers["Content-Length"] = "0"
        del headers["content-type"]
        return start | {"status": 416}, b""
    headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
    headers["Content-Length"] = str(last - first + 1)
    return start | {"status": 206}, body[first : last + 1]


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """The first and the last byte; the first is larger if the range is empty."""
    if not first:  # the last bytes
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1
