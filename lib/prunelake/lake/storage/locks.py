"""The locks of a lake: locks of the operating system in a folder, leases in an object store."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prunelake.lake.storage import leases
from prunelake.lake.storage.location import Location
from prunelake.lake.storage.objects import ObjectPath

WRITE_LOCK = ".lock"
PUBLISH_LOCK = ".publish.lock"
"""A process that needs both locks takes the publish lock first."""


@contextmanager
def locked(
    lake: Location,
    lock_file: str = WRITE_LOCK,
    wait: bool = True,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold a lock of the lake in the block, so that one writer or publisher works at a time.

    The lock ends with the process. If another process holds it, `on_wait` is called once, and this
    process waits.

    Raises:
        LakeError: another process holds the lock and `wait` is false; in an object store also if
            the lock was lost because this process was suspended for a while.
    """
    if isinstance(lake, ObjectPath):
        with leases.hold_lease(lake / lock_file, wait, on_wait):
            yield
        return
    lake.mkdir(parents=True, exist_ok=True)
    path = lake / lock_file
    while True:
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise leases.held_error(lake, lock_file) from None
                if on_wait:
                    on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            # A removed lock file locks nobody out: another process creates a new one.
            if os.fstat(lock.fileno()).st_nlink:
                yield
                return
