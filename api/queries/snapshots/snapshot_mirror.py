"""Keeps a local copy of the snapshot of a lake in an object store."""

import asyncio
import logging
import tempfile
import threading
from pathlib import Path

from prunelake.errors import LakeError, NoSnapshot
from prunelake.identity import content_hash
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.storage.location import Location, download, local_path
from prunelake.lake.storage.reading import version_of

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""The longest delay in seconds before the server uses a new snapshot."""


class SnapshotMirror:
    """A local copy of the latest published snapshot.

    Only the first request on a machine without a copy waits for the store. While the store does not
    answer, the server keeps serving the copy and logs the outage.
    """

    def __init__(self, lake: Location, cache: Path) -> None:
        self.source = lake / SNAPSHOT_FILE
        self.folder = cache.expanduser() / "snapshots" / content_hash(str(lake))[:16]
        self._lock = threading.Lock()
        self._version: tuple[object, ...] | None = None

    def ensure_copy(self) -> None:
        """Download a copy if this machine has none.

        Raises:
            NoSnapshot: the store has no snapshot, or does not answer.
        """
        if not (self.folder / SNAPSHOT_FILE).exists():
            try:
                self.refresh()
            except (LakeError, OSError) as error:
                raise NoSnapshot(
                    f"there is no {self.source} ({error}); `prunelake publish` writes it"
                ) from error

    def refresh(self) -> None:
        """Update the copy: one request, and a download if there is a new snapshot.

        Raises:
            FileNotFoundError: nothing has been published yet.
            LakeError: the store refuses, or does not answer.
            OSError: the copy cannot be written.
        """
        with self._lock:
            version = version_of(self.source)
            copy = self.folder / SNAPSHOT_FILE
            if version is not None and version == self._version and copy.exists():
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
                download(self.source, Path(temporary)).replace(copy)
            # If a snapshot was published in between, the next refresh downloads it again.
            self._version = version

    async def poll(self) -> None:
        """Refresh the copy every `POLL_SECONDS` until cancelled."""
        was_unavailable = False
        while True:
            try:
                await asyncio.to_thread(self.refresh)
                was_unavailable = False
            except FileNotFoundError:
                pass  # requests get NoSnapshot
            except (LakeError, OSError) as error:
                if not was_unavailable:
                    log.warning("%s; still serving the copy in %s", error, self.folder)
                was_unavailable = True
            await asyncio.sleep(POLL_SECONDS)


def snapshot_folder(lake: Location, cache: Path) -> tuple[Path, SnapshotMirror | None]:
    """The local folder with the snapshot of a lake, and for an object store its mirror."""
    if local := local_path(lake):
        return local, None
    mirror = SnapshotMirror(lake, cache)
    mirror.folder.mkdir(parents=True, exist_ok=True)
    return mirror.folder, mirror
