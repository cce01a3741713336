"""The storage of a lake: a local folder, or a prefix in an object store.

The functions of this module and of `reading` work for both. A local file is written under a
temporary name, synced to the disk, and linked or renamed; an object is put whole.
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from prunelake.errors import LakeError
from prunelake.lake.storage.objects import SCHEMES, ObjectPath, parse_object_path

Location = Path | ObjectPath
"""A file or folder: local, or in an object store."""

LocationT = TypeVar("LocationT", Path, ObjectPath, Location)
"""A local path or an object path; functions return the kind they were given."""

TEMPORARY_SUFFIX = ".tmp"

FICLONE = 0x40049409
"""The request to share all blocks of another file (linux/fs.h); Python 3.12 has it in `fcntl`."""

COPIED_BYTES = 2**18


def parse_location(text: "str | Location") -> Location:
    """The location that a setting or option names: `s3://bucket/prefix`, or a local path.

    `gs://` is Google Cloud Storage, and `az://` is Azure.

    Raises:
        LakeError: a URL with another scheme, or without a bucket.
    """
    if not isinstance(text, str):
        return text
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    if scheme not in SCHEMES:
        choices = ", ".join(f"{each}://BUCKET/PREFIX" for each in SCHEMES)
        raise LakeError(f"{text!r} cannot hold a lake; give a folder, or {choices}")
    return parse_object_path(text)


def local_path(path: Location) -> Path | None:
    """The path, if it lies in the local file system."""
    return path if isinstance(path, Path) else None


def list_folder(folder: Location, pattern: str = "*") -> list[Location]:
    """The files and folders directly in a folder whose names match, sorted."""
    paths: list[Location] = [*folder.glob(pattern)]
    return sorted(paths)


def create(path: Location, content: bytes) -> bool:
    """Create a file with this content. Returns False, without a change, if it exists already.

    If many processes write one file, exactly one succeeds.
    """
    if isinstance(path, ObjectPath):
        return path.create(content) is not None
    temporary = _write_temporary(path, content)
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except FileNotFoundError:
        # Garbage collection deletes the temporary file of a process that slept for long.
        return create(path, content)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def put(path: Location, content: bytes) -> None:
    """Write a file, replacing any other version; the last writer wins."""
    if isinstance(path, ObjectPath):
        path.put(content)
        return
    temporary = _write_temporary(path, content)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_temporary(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def delete(path: Location) -> None:
    """Delete a file or an object, if it exists."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
    else:
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
        sync(path.parent)
        return
    assert isinstance(path, ObjectPath)
    assert isinstance(target, ObjectPath)
    for source in [path] if path.is_file() else list(path.iter_objects()):
        name = source.key.removeprefix(path.key).strip("/")
        (target / name if name else target).copy_from(source)
        delete(source)


def download(path: Location, folder: Path) -> Path:
    """A local file with this content: the file itself, or a copy of an object in a folder.

    Raises:
        FileNotFoundError: no such object.
    """
    if isinstance(path, Path):
        return path
    copy = folder / path.name
    path.download(copy)
    return copy


def copy_file(source: Path, target: Path) -> None:
    """Copy a local file. A file system that can share blocks (XFS, btrfs) copies none."""
    with source.open("rb") as reader, target.open("wb") as writer:
        with suppress(OSError):  # not Linux, or a file system that cannot share blocks
            fcntl.ioctl(writer, FICLONE, reader.fileno())
            return
        # On ext4, writes from a buffer that stays in the cache of the CPU take less of its time
        # than `copy_file_range`.
        shutil.copyfileobj(reader, writer, COPIED_BYTES)


@contextmanager
def work_folder(lake: Location, name: str) -> Iterator[Path]:
    """A new, empty local folder in the block, from which `install` moves files into the lake.

    One process at a time may use a name. In a local lake it is the folder of this name.
    """
    if isinstance(lake, ObjectPath):
        with TemporaryDirectory(prefix="prunelake-") as temporary:
            yield Path(temporary)
        return
    folder = lake / name
    shutil.rmtree(folder, ignore_errors=True)  # a killed process may have left it
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def install(file: Path, path: Location, metadata: Mapping[str, str]) -> None:
    """Move a local file of any size from a `work_folder` to a path, replacing any file there.

    Readers see the old file or the new file. An object keeps the metadata, a local file does not.
    """
    if isinstance(path, ObjectPath):
        path.put(file, metadata)
    else:
        sync(file)  # otherwise a power cut could leave the new name without its data
        file.replace(path)


def metadata_of(path: Location) -> Mapping[str, str]:
    """The metadata of an installed object; a local file has none.

    Raises:
        FileNotFoundError: no such object.
    """
    return path.metadata()[1] if isinstance(path, ObjectPath) else {}


def relative_name(path: Location, folder: Location) -> str:
    """The name of a path relative to a folder above it."""
    if isinstance(path, Path) and isinstance(folder, Path):
        return str(path.relative_to(folder))
    assert isinstance(path, ObjectPath)
    assert isinstance(folder, ObjectPath)
    return path.key.removeprefix(folder.key).strip("/")


def written_at(path: Location) -> float:
    """The time of the last write to a file, in seconds, by the clock of its storage.

    The newest file in a folder counts for the folder. Times of one storage can be compared,
    whatever the clocks of the machines say.

    Raises:
        FileNotFoundError: no such file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        # In a store, a folder is nothing but its objects.
        found = [] if isinstance(path, Path) else [*path.iter_objects()]
        if not found:
            raise
        return max(each.stat().st_mtime for each in found)
    if isinstance(path, Path) and path.is_dir():
        return max(each.stat().st_mtime for each in (path, *path.rglob("*")))
    return status.st_mtime


def storage_clock(lake: Location) -> float:
    """The present time by the clock of the storage of a lake, in seconds, as in `written_at`."""
    probe = lake / f".clock.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}"
    put(probe, b"")
    try:
        return written_at(probe)
    finally:
        delete(probe)


def sync(path: Path) -> None:
    """Sync a local file, or the names in a local folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
