"""The file system through which DuckDB reads objects; it implements the interface of fsspec.

obstore has one, too. But its open files have one position, and the threads of DuckDB share an open
file; and it fetches each block again for every view, and compares no block with its hash.
"""

import io
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock, local
from typing import Any

from fsspec.spec import AbstractFileSystem

from prunelake.lake.storage.objects import BLOCK_BYTES, SCHEMES, ObjectPath, parse_object_path

CACHE_BYTES = 256 * 2**20
"""The size of the cache: DuckDB opens some objects for every view, and large objects per thread."""


class ObjectStoreFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Reads the objects that the manifests of a lake list.

    The views name every object, so DuckDB does not search for objects, and requests an object only
    when it opens it. A small object arrives whole, a large object as far as a query needs it.
    `check(path, block number, content of the block, size of the object)` raises if a block is not
    as it was written, and for a missing object, which has None as its content.
    """

    protocol = SCHEMES
    cachable = False  # otherwise fsspec keeps every instance forever

    def __init__(self, check: Callable[[ObjectPath, int, bytes | None, int], None]) -> None:
        super().__init__()
        self._check = check
        self._sizes: dict[ObjectPath, int] = {}
        self._blocks: OrderedDict[tuple[ObjectPath, int], bytes] = OrderedDict()
        self._fetch_locks: dict[tuple[ObjectPath, int], Lock] = {}
        self._cached_bytes = 0
        self._lock = Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path  # the scheme is part of an ObjectPath

    def exists(self, path: str, **_: Any) -> bool:
        """True: a manifest lists the object."""
        return bool(path)

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path itself: the names of runs and tables contain no wildcards."""
        return [path]

    def size(self, path: str) -> int:
        """The size in bytes of an open object."""
        return self._sizes[parse_object_path(path)]

    def modified(self, path: str) -> datetime:  # noqa: ARG002  # the signature of fsspec
        """The same time for all objects: a listed object never changes."""
        return datetime.fromtimestamp(0, UTC)

    def read_block(self, source: ObjectPath, number: int) -> bytes:
        """One block of an object; threads that need the same block share one request."""
        key = source, number
        with self._lock:
            fetch_lock = self._fetch_locks.setdefault(key, Lock())
        with fetch_lock:
            with self._lock:
                if key in self._blocks:
                    self._blocks.move_to_end(key)
                    return self._blocks[key]
            try:
                content, _, size = source.read_with_tag(number * BLOCK_BYTES, BLOCK_BYTES)
            except FileNotFoundError:
                self._check(source, number, None, 0)
                raise
            self._check(source, number, content, size)
            with self._lock:
                self._sizes[source] = size
                self._blocks[key] = content
                self._cached_bytes += len(content)
                while self._cached_bytes > CACHE_BYTES:
                    self._cached_bytes -= len(self._blocks.popitem(last=False)[1])
            return content

    def _open(self, path: str, mode: str = "rb", **_: Any) -> "_ObjectReader":
        if mode != "rb":
            raise PermissionError(f"{path}: a query can only read")
        source = parse_object_path(path)
        self.read_block(source, 0)
        return _ObjectReader(self, source, self._sizes[source])


class _ObjectReader(io.RawIOBase):
    """An open object. The threads of DuckDB share it, and each seeks before it reads."""

    def __init__(self, files: ObjectStoreFileSystem, source: ObjectPath, size: int) -> None:
        self._files = files
        self._source = source
        self._size = size
        self._position = _ThreadPosition()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position.offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = self._position
        start = {io.SEEK_SET: 0, io.SEEK_CUR: position.offset, io.SEEK_END: self._size}[whence]
        position.offset = start + offset
        return position.offset

    def read(self, size: int = -1) -> bytes:
        offset = self._position.offset
        stop = self._size if size < 0 else min(offset + size, self._size)
        pieces = []
        while offset < stop:
            number, start = divmod(offset, BLOCK_BYTES)
            block = self._files.read_block(self._source, number)
            pieces.append(block[start : start + stop - offset])
            offset += len(pieces[-1])
        self._position.offset = offset
        return b"".join(pieces)


class _ThreadPosition(local):
    """The position of each thread in an object."""

    offset = 0
