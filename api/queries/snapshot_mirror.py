"""The snapshot of a lake in an object store, kept in a folder of this machine."""

import asyncio
import logging
import os
import tempfile
import threading
from pathlib import Path

from prunelake.errors import LakeError, NoSnapshot
from prunelake.lake.objects import ObjectPath
from prunelake.lake.paths import SNAPSHOT_FILE
from prunelake.spec import content_hash

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""So much later than at once a newly published snapshot may be picked up."""


class SnapshotMirror:
    """A copy of the last published snapshot, as good as the store lets it be.

    No request waits for the store but the first one of a machine that has no copy yet. A store that
    is away is told to the log, and the copy is served on.
    """

    def __init__(self, lake: ObjectPath, cache: Path) -> None:
        self.source = lake / SNAPSHOT_FILE
        self.folder = cache.expanduser() / "snapshots" / content_hash(str(lake))[:16]
        self._lock = threading.Lock()
        self._etag = ""

    def ensure_copy(self) -> None:
        """See that there is a copy.

        Raises:
            NoSnapshot: none here, and none in the store, or no store that answers.
        """
        if not (self.folder / SNAPSHOT_FILE).exists():
            try:
                self.refresh()
            except (LakeError, OSError) as error:
                raise NoSnapshot(
                    f"there is no {self.source} ({error}); `prunelake publish` writes it"
                ) from error

    def refresh(self) -> None:
        """Bring the copy up to date: one request, and the transfer if there is a new one.

        Raises:
            FileNotFoundError: nothing was published yet.
            LakeError: a store that refuses, or does not answer.
            OSError: no room for it.
        """
        with self._lock:
            etag, _ = self.source.metadata()
            copy = self.folder / SNAPSHOT_FILE
            if etag == self._etag and copy.exists():
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder) as temporary:
                arriving = Path(temporary) / SNAPSHOT_FILE
                self.source.download(str(arriving))
                os.replace(arriving, copy)  # noqa: PTH105  # one snapshot or the other, never a part
            # If it was published anew in between, the next look fetches it again.
            self._etag = etag

    async def poll(self) -> None:
        """Look every few seconds until this is cancelled."""
        was_away = False
        while True:
            try:
                await asyncio.to_thread(self.refresh)
                was_away = False
            except FileNotFoundError:
                pass  # who asks is told
            except (LakeError, OSError) as error:
                if not was_away:
                    log.warning("%s; still serving the copy in %s", error, self.folder)
                was_away = True
            await asyncio.sleep(POLL_SECONDS)
