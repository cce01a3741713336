"""Read the files of a lake: many objects at once, by hash, by version, and through DuckDB."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from prunelake.lake.storage.location import Location
from prunelake.lake.storage.objects import (
    MAX_CONCURRENT_REQUESTS,
    ObjectPath,
    PreconditionFailed,
    Tag,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def prefetch(path: Location) -> Location:
    """The same path; an object path gets its current content, so that it is fetched only once."""
    return path.prefetch() if isinstance(path, ObjectPath) else path


def prefetch_all(paths: Sequence[Location]) -> list[Location]:
    """The same paths, as `prefetch`; many objects are fetched at once.

    An object that was just listed is not fetched again while its tag is the same.
    """
    if not any(isinstance(path, ObjectPath) for path in paths):
        return [*paths]
    with ThreadPoolExecutor(MAX_CONCURRENT_REQUESTS) as pool:
        return list(pool.map(_prefetch_version, paths))


def _prefetch_version(path: Location) -> Location:
    if isinstance(path, Path) or path.content is not None:
        return path
    if path.tag is not None:
        with suppress(PreconditionFailed, FileNotFoundError):
            return replace(path, content=_read_version(path, path.tag))
    return path.prefetch()


@lru_cache(maxsize=16_384)
def _read_version(path: ObjectPath, tag: Tag) -> bytes:
    return path.read_with_tag(tag=tag)[0]


def hash_of(path: Location) -> str:
    """The SHA-256 (hex) of the content of a file, which may be larger than the memory.

    Raises:
        FileNotFoundError: no such file.
    """
    if isinstance(path, ObjectPath):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def let_duckdb_read(
    connection: "DuckDBPyConnection",
    lake: Location,
    check: Callable[[ObjectPath, int, bytes | None, int], None],
) -> None:
    """Let DuckDB read the files of a lake; `check` as for `ObjectStoreFileSystem`."""
    if isinstance(lake, ObjectPath):
        from prunelake.lake.storage.duckdb_filesystem import ObjectStoreFileSystem

        connection.register_filesystem(ObjectStoreFileSystem(check))


def version_of(path: Location) -> tuple[object, ...] | None:
    """A value that changes with the content of a file; None if it does not exist.

    For a local file: size, time of the last write (ns) and inode; for an object: its tag.
    """
    try:
        if isinstance(path, ObjectPath):
            return path.tag or path.metadata()[0]
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
