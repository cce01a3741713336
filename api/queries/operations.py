"""The state of operations around a lake: evaluations in flight, unfinished runs, last checks."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from prunelake.errors import CorruptFile, LakeError
from prunelake.lake.attempt_log import Attempt, read_attempts
from prunelake.lake.files.paths import SHARDS_FOLDER
from prunelake.lake.storage.location import Location, list_folder, local_path
from prunelake.watch.status import Status, read_status

log = logging.getLogger(__name__)

STATUS_NAMES = ("watch", "doctor")

STORE_SECONDS = 15.0
"""How long the state of a lake in an object store is used: a scrape costs six requests at most."""


@dataclass(frozen=True)
class OperationsState:
    """The attempts of `watch`, or None if one is damaged; the unfinished runs; the last checks."""

    attempts: tuple[Attempt, ...] | None
    statuses: Mapping[str, Status]
    unfinished_runs: int
    unfinished_shards: int


class Operations:
    """The state of operations around a lake.

    A lake in an object store is read at most every `STORE_SECONDS`, also while it does not answer.
    """

    def __init__(self, lake: Location) -> None:
        self._lake = lake
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._state: OperationsState | None = None

    def state(self) -> OperationsState | None:
        """The state; None if the lake cannot be read, and the log has the reason."""
        if local_path(self._lake):
            return self._read()
        with self._lock:
            if self._read_at is None or time.monotonic() - self._read_at > STORE_SECONDS:
                self._state = self._read()
                self._read_at = time.monotonic()
            return self._state

    def _read(self) -> OperationsState | None:
        try:
            return read_operations(self._lake)
        except (LakeError, OSError) as error:
            log.warning("metrics without operations: %s", error)
            return None


def read_operations(lake: Location) -> OperationsState:
    """Read the state of operations.

    Raises:
        LakeError, OSError: the lake cannot be read.
    """
    attempts: tuple[Attempt, ...] | None = None
    try:
        attempts = tuple(read_attempts(lake).values())
    except CorruptFile as error:
        log.warning("%s", error)
    found = {name: read_status(lake, name) for name in STATUS_NAMES}
    folders = [path for path in list_folder(lake / SHARDS_FOLDER) if path.is_dir()]
    return OperationsState(
        attempts,
        {name: status for name, status in found.items() if status is not None},
        len(folders),
        sum(len(list_folder(folder, "[!.]*.json")) for folder in folders),
    )
