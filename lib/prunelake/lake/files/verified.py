"""Check each data file once against its hash, and remember the result.

A local file is checked again if its size, its time of writing or its inode has changed. The file
`.verified` of a lake remembers this for other processes. An object is checked when it is read: as a
whole, or block by block. A process remembers the damaged objects that it has read.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeVar

from prunelake.errors import CorruptFile, PruneLakeError
from prunelake.lake.files.listed_file import ListedFile, hex_digest
from prunelake.lake.files.paths import parse_data_file
from prunelake.lake.storage.location import Location, local_path, put, relative_name
from prunelake.lake.storage.reading import hash_of, version_of

VERIFIED_FILE = ".verified"

CHECKSUM_DIFFERS = "its bytes have changed since it was written (SHA-256 differs)"

T = TypeVar("T")

_damaged_objects: dict[Location, str] = {}
"""The problems of the damaged objects that this process has read."""


class VerifiedFiles:
    """The files of a lake whose bytes were found to match their hashes."""

    def __init__(self, lake: Location) -> None:
        self._lake = lake
        self._versions: dict[str, list[object]] | None = None
        self._has_news = False

    def problem(self, path: Location, sha256: str) -> str | None:
        """The damage of a file, None if there is none; for an object, the damage found so far."""
        if local_path(path) is None:  # objects are checked when read, because each costs a request
            return _damaged_objects.get(path)
        if self._versions is None:
            self._versions = self._load()
        version = version_of(path)
        if version is None:
            return "missing"
        name = relative_name(path, self._lake)
        if self._versions.get(name) == [*version]:
            return None
        problem = content_problem(path, sha256)
        if problem is None:
            self._versions[name] = [*version]
            self._has_news = True
        return problem

    def _load(self) -> dict[str, list[object]]:
        try:
            return dict(json.loads((self._lake / VERIFIED_FILE).read_bytes()))
        except (OSError, ValueError):
            return {}

    def save(self) -> None:
        """Remember the checked files for other processes; a lake may be read-only."""
        if self._has_news:
            with suppress(OSError):
                put(self._lake / VERIFIED_FILE, json.dumps(self._versions).encode())


@contextmanager
def verified_files(lake: Location) -> Iterator[VerifiedFiles]:
    """The checked files of a lake; saved after the block."""
    files = VerifiedFiles(lake)
    yield files
    files.save()


def content_problem(path: Location, sha256: str) -> str | None:
    """Compare all bytes of a file with its hash; None if they agree."""
    try:
        return None if hash_of(path) == sha256 else CHECKSUM_DIFFERS
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"it cannot be read ({error})"


def read_verified(path: Location) -> bytes:
    """The content of a data file, which has the hash in its name.

    Raises:
        CorruptFile: the file has changed; the process remembers this of an object.
        FileNotFoundError: no such file.
    """
    content, name = path.read_bytes(), parse_data_file(path)
    if name and not hex_digest(content).startswith(name[1]):
        raise _damaged(path, CHECKSUM_DIFFERS)
    return content


class BlockChecks:
    """Checks each block of the objects that manifests list, when SQL reads it.

    A large object whose manifest has no hashes of blocks is read once as a whole.
    """

    def __init__(self, listed: Mapping[Location, ListedFile]) -> None:
        self._listed = listed
        self._whole: set[Location] = set()

    def __call__(self, path: Location, number: int, content: bytes | None, size: int) -> None:
        """Raise unless a block of an object of `size` bytes is as it was written.

        Raises:
            CorruptFile: the object is missing or has changed; the process remembers this.
        """
        listed = self._listed[path]
        if content is None:
            raise _damaged(path, "missing")
        if size != listed.size:
            raise _damaged(path, CHECKSUM_DIFFERS)
        if len(content) < size and not listed.blocks:
            if path not in self._whole and (problem := content_problem(path, listed.sha256)):
                raise _damaged(path, problem)
            self._whole.add(path)
        elif hex_digest(content) != (listed.blocks[number] if listed.blocks else listed.sha256):
            raise _damaged(path, CHECKSUM_DIFFERS)


def _damaged(path: Location, problem: str) -> CorruptFile:
    _damaged_objects[path] = problem
    return CorruptFile(f"{path}: {problem}; `prunelake doctor` lists every damaged file")


def retry_without_damage(work: Callable[[], T]) -> T:
    """The result of some work; it is repeated if it finds a damaged object, whose run is hidden.

    Raises:
        PruneLakeError: as `work`, if it fails for another reason.
    """
    while True:
        known = len(_damaged_objects)
        try:
            return work()
        except PruneLakeError:
            if len(_damaged_objects) == known:
                raise
