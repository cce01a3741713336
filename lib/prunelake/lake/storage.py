"""Where a lake is: a folder of this machine, or a prefix in an object store. What differs is here.

A file is written under a temporary name, brought to the disk and renamed; an object is put whole.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TypeVar

from prunelake.errors import LakeError
from prunelake.lake import leases, objects
from prunelake.lake.objects import SCHEME, ObjectPath, parse_object_path

Location = Path | ObjectPath
"""A file or folder, here or in an object store."""

LocationT = TypeVar("LocationT", Path, ObjectPath, Location)
"""Either of them: what is made of the one is of its kind."""


def parse_location(place: "str | Location") -> Location:
    """What a setting or option names: `s3://bucket/prefix`, or a path of this machine.

    Raises:
        LakeError: a URL of another kind, or without a bucket.
    """
    if not isinstance(place, str):
        return place
    if place.startswith(SCHEME):
        return parse_object_path(place)
    if "://" in place:
        raise LakeError(f"{place!r} is no place of a lake; give a folder, or s3://BUCKET/PREFIX")
    return Path(place)


def prefetch_all(paths: Sequence[Location]) -> list[Location]:
    """The same, each object with what it holds now: they are asked for at once."""
    remote = [path for path in paths if isinstance(path, ObjectPath)]
    return [*objects.prefetch_all(remote)] if remote else [*paths]


def list_folder(folder: Location, pattern: str = "*") -> list[Location]:
    """What is in a folder, no deeper, and matches, sorted."""
    found: list[Location] = [*folder.glob(pattern)]
    return sorted(found)


def prefetch(path: Location) -> Location:
    """The same, an object with what it holds now, so that it is asked for once."""
    return path.prefetch() if isinstance(path, ObjectPath) else path


def delete(path: Location, missing_ok: bool = False) -> None:
    """Remove a file, or an object; the latter only under leases that are still held.

    Raises:
        FileNotFoundError: no such file, without `missing_ok`. An object is not asked for first.
        LakeError: a lease was lost.
    """
    if isinstance(path, Path):
        path.unlink(missing_ok=missing_ok)
    else:
        leases.require_leases(path)
        path.remove()


def delete_folder(folder: Location, ignore_errors: bool = False) -> None:
    """Remove a folder with all that is in it."""
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=ignore_errors)
    else:
        with suppress(LakeError) if ignore_errors else nullcontext():
            for path in folder.iter_objects():
                delete(path)


def move(path: Location, target: Location) -> None:
    """Give a file or folder another name in the same lake."""
    if isinstance(path, Path) and isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        fsync(path.parent)
        return
    assert isinstance(path, ObjectPath)
    assert isinstance(target, ObjectPath)
    each = [path] if path.is_file() else list(path.iter_objects())
    for found in each:
        own = found.key.removeprefix(path.key).strip("/")
        (target / own if own else target).copy_from(found)
        delete(found)


def write_text(path: Location, text: str) -> None:
    """Write a small file."""
    if isinstance(path, Path):
        path.write_text(text, encoding="utf-8")
    else:
        path.put(text.encode())


def relative_name(path: Location, folder: Location) -> str:
    """The name of a path as it is in a folder above it."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return str(path.relative_to(folder))
    assert isinstance(path, ObjectPath)
    assert isinstance(folder, ObjectPath)
    return path.key.removeprefix(folder.key).strip("/")


def fsync(path: Location) -> None:
    """Bring a file, or the names in a folder, to the disk; what a store has answered is safe."""
    if isinstance(path, ObjectPath):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
