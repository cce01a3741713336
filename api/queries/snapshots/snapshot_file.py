"""The snapshot under a name that hides its folder: SQL of clients can ask for names of files."""

import os
import weakref
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

from fsspec.spec import AbstractFileSystem

SNAPSHOT_URL = "snapshot://prunelake.duckdb"


class SnapshotFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """A file system with one file, `SNAPSHOT_URL`, for a database with one thread.

    The file stays open, so it can be read by a process that may no longer open files.
    """

    protocol = "snapshot"
    cachable = False  # otherwise fsspec keeps every instance forever

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: it cannot be opened.
        """
        super().__init__()
        self._file = path.open("rb")
        weakref.finalize(self, self._file.close)
        self._size = os.fstat(self._file.fileno()).st_size

    def exists(self, path: str, **_: Any) -> bool:
        """Whether DuckDB names the snapshot."""
        return path in (SNAPSHOT_URL, SNAPSHOT_URL.partition("://")[2])

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The size of the snapshot."""
        if not self.exists(path):
            raise FileNotFoundError(path)
        return {"name": path, "size": self._size, "type": "file"}

    def modified(self, path: str) -> datetime:  # noqa: ARG002  # the signature of fsspec
        """The same time always: a snapshot never changes."""
        return datetime.fromtimestamp(0, UTC)

    def glob(self, path: str, **_: Any) -> list[str]:  # noqa: ARG002  # the signature of fsspec
        """Nothing: queries find no files."""
        return []

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BufferedReader:
        if mode != "rb" or not self.exists(path):
            raise PermissionError(f"{path}: a query can only read")
        return self._file
