"""Check each data file once against its hash, and remember the result.

A local file is checked again if its size, its time of writing or its inode has changed. The file
`.verified` of a lake remembers this for other processes. An object is checked when it is read, by
the hash in its name. From then on, its process knows that it is damaged.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prunelake.errors import CorruptFile
from prunelake.lake.files.paths import parse_data_file
from prunelake.lake.storage.location import (
    Location,
    is_local,
    local_path,
    put,
    relative_name,
    version_of,
)

VERIFIED_FILE = ".verified"

CHECKSUM_DIFFERS = "its bytes have changed since it was written (SHA-256 differs)"

_damaged_objects: dict[Location, str] = {}
"""The problems of the damaged objects that this process has read."""


class VerifiedFiles:
    """The files of a lake that were found to be as they were written."""

    def __init__(self, lake: Location) -> None:
        self._lake = lake
        self._versions: dict[str, list[object]] = {}
        self._has_news = False
        if is_local(lake):
            with suppress(OSError, ValueError):
                self._versions = dict(json.loads((lake / VERIFIED_FILE).read_bytes()))

    def problem(self, path: Location, sha256: str) -> str | None:
        """The damage of a data file, as far as it is known of an object; None if there is none."""
        if not is_local(path):
            return _damaged_objects.get(path)
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
        if local := local_path(path):
            with local.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"it cannot be read ({error})"
    return None if digest == sha256 else CHECKSUM_DIFFERS


def damaged_object_count() -> int:
    """The number of damaged objects that this process has read."""
    return len(_damaged_objects)


def check_object(path: Location, content: bytes | None) -> None:
    """Raise unless the content of an object, None if it is missing, has the hash in its name.

    Raises:
        CorruptFile: the object is missing or has changed; the process remembers this.
    """
    name = parse_data_file(path)
    if content is None:
        problem = "missing"
    elif name and not hashlib.sha256(content).hexdigest().startswith(name[1]):
        problem = CHECKSUM_DIFFERS
    else:
        return
    _damaged_objects[path] = problem
    raise CorruptFile(f"{path}: {problem}; `prunelake doctor` lists every damaged file")
