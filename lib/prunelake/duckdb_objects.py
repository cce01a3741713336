"""How DuckDB reads objects: through a file system in Python, which it takes from fsspec."""

import io
from datetime import UTC, datetime
from typing import Any

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from prunelake.objects import SCHEME, ObjectPath, object_path

BLOCK_BYTES = 4 * 2**20
"""So much is asked for at once: most objects whole, and of large ones what a query needs."""

KEPT_BYTES = 256 * 2**20
"""So much of small objects is kept: DuckDB opens some of them for every view that it makes."""


class Objects(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """The objects that a lake's heads list, to be read.

    DuckDB names them and looks for none, so each is asked for only when it is opened.
    """

    protocol = "s3"
    cachable = False  # else fsspec keeps every one for good

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, int] = {}
        self._kept: dict[str, bytes] = {}
        self._room = KEPT_BYTES

    def exists(self, path: str, **_: Any) -> bool:
        """Yes: a head lists it."""
        return bool(path)

    def glob(self, path: str, **_: Any) -> list[str]:
        """The path: names of runs and tables have no wildcards."""
        return [path]

    def size(self, path: str) -> int:
        """Bytes of an object that is open."""
        return self._sizes[_plain(path)]

    def modified(self, path: str) -> datetime:  # noqa: ARG002  # as fsspec has it
        """The same of all: what a head lists never changes."""
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise PermissionError(f"{path}: only reading is allowed here")
        name = _plain(path)
        if name in self._kept:
            return io.BytesIO(self._kept[name])
        source = object_path(SCHEME + name)
        begin, _tag, size = source.read_tagged(0, BLOCK_BYTES)
        self._sizes[name] = size
        if len(begin) < size:
            return _Large(self, source, size)
        if size <= self._room:
            self._room -= size
            self._kept[name] = begin
        return io.BytesIO(begin)


class _Large(AbstractBufferedFile):  # type: ignore[misc]  # fsspec ships no types
    """An object that is read by and by."""

    def __init__(self, files: Objects, source: ObjectPath, size: int) -> None:
        self._source = source
        super().__init__(files, str(source), "rb", BLOCK_BYTES, size=size)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._source.read_tagged(start, end - start)[0]


def _plain(path: str) -> str:
    return path.removeprefix(SCHEME)
