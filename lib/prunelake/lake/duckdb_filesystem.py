"""How DuckDB reads objects: through a file system in Python, which it takes from fsspec."""

import io
from collections import OrderedDict
from datetime import UTC, datetime
from threading import Lock, local
from typing import Any

from fsspec.spec import AbstractFileSystem

from prunelake.lake.objects import SCHEME, ObjectPath, parse_object_path

BLOCK_BYTES = 4 * 2**20
"""So much is asked for at once: most objects whole, and of large ones what a query needs."""

CACHE_BYTES = 256 * 2**20
"""So much is kept: DuckDB opens some objects for every view, and large ones once a thread."""


class ObjectStoreFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """The objects that a lake's heads list, to be read.

    DuckDB names them and looks for none, so each is asked for only when it is opened.
    """

    protocol = "s3"
    cachable = False  # else fsspec keeps every one for good

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[ObjectPath, int] = {}
        self._blocks: OrderedDict[tuple[ObjectPath, int], bytes] = OrderedDict()
        self._fetch_locks: dict[tuple[ObjectPath, int], Lock] = {}
        self._cached_bytes = 0
        self._lock = Lock()

    def exists(self, path: str, **_: Any) -> bool:
        """Yes: a head lists it."""
        return bool(path)

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path: names of runs and tables have no wildcards."""
        return [path]

    def size(self, path: str) -> int:
        """Bytes of an object that is open."""
        return self._sizes[_parse_object(path)]

    def modified(self, path: str) -> datetime:  # noqa: ARG002  # as fsspec has it
        """The same of all: what a head lists never changes."""
        return datetime.fromtimestamp(0, UTC)

    def read_block(self, source: ObjectPath, number: int) -> bytes:
        """One block of an object; of several threads that want it one asks for it."""
        key = source, number
        with self._lock:
            arriving = self._fetch_locks.setdefault(key, Lock())
        with arriving:
            with self._lock:
                if key in self._blocks:
                    self._blocks.move_to_end(key)
                    return self._blocks[key]
            content, _, size = source.read_with_etag(number * BLOCK_BYTES, BLOCK_BYTES)
            with self._lock:
                self._sizes[source] = size
                self._blocks[key] = content
                self._cached_bytes += len(content)
                while self._cached_bytes > CACHE_BYTES:
                    self._cached_bytes -= len(self._blocks.popitem(last=False)[1])
            return content

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "_ObjectReader":
        if mode != "rb":
            raise PermissionError(f"{path}: only reading is allowed here")
        source = _parse_object(path)
        self.read_block(source, 0)
        return _ObjectReader(self, source, self._sizes[source])


class _ObjectReader(io.RawIOBase):
    """One object, open. DuckDB's threads share it, and each seeks before it reads."""

    def __init__(self, files: ObjectStoreFileSystem, source: ObjectPath, size: int) -> None:
        self._files = files
        self._source = source
        self._size = size
        self._place = _ThreadPosition()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place.at, io.SEEK_END: self._size}[whence]
        self._place.at = start + offset
        return self._place.at

    def read(self, size: int = -1) -> bytes:
        at = self._place.at
        stop = self._size if size < 0 else min(at + size, self._size)
        parts = []
        while at < stop:
            number, begin = divmod(at, BLOCK_BYTES)
            part = self._files.read_block(self._source, number)[begin : begin + stop - at]
            parts.append(part)
            at += len(part)
        self._place.at = at
        return b"".join(parts)


class _ThreadPosition(local):
    """Where a thread reads."""

    at = 0


def _parse_object(path: str) -> ObjectPath:
    return parse_object_path(SCHEME + path.removeprefix(SCHEME))
