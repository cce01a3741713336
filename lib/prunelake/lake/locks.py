"""The locks of a lake: of this machine's system in a folder, leases in an object store."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prunelake.errors import LakeError
from prunelake.lake import leases
from prunelake.lake.objects import ObjectPath
from prunelake.lake.storage import Location

WRITE_LOCK = ".lock"
PUBLISH_LOCK = ".publish.lock"  # who needs both takes this one first


@contextmanager
def locked(
    lake: Location,
    lock_file: str = WRITE_LOCK,
    waits: bool = True,
    waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """One writer, or publisher, at a time: two would mix their files. Dies with its process.

    `waiting` is called where another one holds it.

    Raises:
        LakeError: another one is at work, and this one does not wait; in an object store also
            where the lock was lost, since this process did not run for a while.
    """
    if isinstance(lake, ObjectPath):
        with leases.hold_lease(lake / lock_file, waits, waiting):
            yield
        return
    lake.mkdir(parents=True, exist_ok=True)
    path = lake / lock_file
    while True:
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waits:
                    raise LakeError(
                        f"{lake} is being written by another process ({lock_file} is held); ask "
                        "again when the sweep, compaction or publisher has ended"
                    ) from None
                if waiting:
                    waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            # One that was removed meanwhile shuts out nobody.
            if os.fstat(lock.fileno()).st_nlink:
                yield
                return
