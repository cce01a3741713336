"""The storage of a lake: a local folder, or a prefix in an object store.

The functions of this module work for both. A local file is written under a temporary name, synced
to the disk and renamed; an object is put whole.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from prunelake.errors import LakeError
from prunelake.lake.storage import leases
from prunelake.lake.storage.objects import SCHEME, ObjectPath, parse_object_path
from prunelake.lake.storage.s3 import MAX_CONCURRENT_REQUESTS, PreconditionFailed

Location = Path | ObjectPath
"""A file or folder: local, or in an object store."""

LocationT = TypeVar("LocationT", Path, ObjectPath, Location)
"""A local path or an object path; functions return the kind they were given."""


def parse_location(text: "str | Location") -> Location:
    """The location that a setting or option names: `s3://bucket/prefix`, or a local path.

    Raises:
        LakeError: a URL with another scheme, or without a bucket.
    """
    if not isinstance(text, str):
        return text
    if text.startswith(SCHEME):
        return parse_object_path(text)
    if "://" in text:
        raise LakeError(f"{text!r} cannot hold a lake; give a folder, or s3://BUCKET/PREFIX")
    return Path(text)


def list_folder(folder: Location, pattern: str = "*") -> list[Location]:
    """The files and folders directly in a folder whose names match, sorted."""
    paths: list[Location] = [*folder.glob(pattern)]
    return sorted(paths)


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
    if path.etag is not None:
        with suppress(PreconditionFailed, FileNotFoundError):
            return replace(path, content=_read_version(path, path.etag))
    return path.prefetch()


@lru_cache(maxsize=16_384)
def _read_version(path: ObjectPath, etag: str) -> bytes:
    return path.read_with_etag(IfMatch=etag)[0]


def delete(path: Location, missing_ok: bool = False) -> None:
    """Delete a file or an object; an object only if all leases on its lake are held.

    Raises:
        FileNotFoundError: no such local file, without `missing_ok`.
        LakeError: a lease was lost.
    """
    if isinstance(path, Path):
        path.unlink(missing_ok=missing_ok)
    else:
        leases.require_leases(path)
        path.remove()


def delete_folder(folder: Location, ignore_errors: bool = False) -> None:
    """Delete a folder with all its files."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=ignore_errors)
    else:
        with suppress(LakeError) if ignore_errors else nullcontext():
            for path in folder.iter_objects():
                delete(path)


def move(path: Location, target: Location) -> None:
    """Rename a file or folder within one lake."""
    if isinstance(path, Path) and isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        fsync(path.parent)
        return
    assert isinstance(path, ObjectPath)
    assert isinstance(target, ObjectPath)
    for source in [path] if path.is_file() else list(path.iter_objects()):
        name = source.key.removeprefix(path.key).strip("/")
        (target / name if name else target).copy_from(source)
        delete(source)


def write_text(path: Location, text: str) -> None:
    """Write a small file."""
    if isinstance(path, Path):
        path.write_text(text, encoding="utf-8")
    else:
        path.put(text.encode())


def relative_name(path: Location, folder: Location) -> str:
    """The name of a path relative to a folder above it."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return str(path.relative_to(folder))
    assert isinstance(path, ObjectPath)
    assert isinstance(folder, ObjectPath)
    return path.key.removeprefix(folder.key).strip("/")


def fsync(path: Location) -> None:
    """Sync a local file, or the names in a folder, to the disk; a store needs no sync."""
    if isinstance(path, ObjectPath):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
