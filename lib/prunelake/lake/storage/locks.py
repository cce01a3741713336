"""The locks of a lake: locks of the operating system in a folder, leases in an object store.

Locks only avoid duplicate work: a process that loses its lock can do no harm. There is a lock for
each run, so the file of a lock is removed with it; the package filelock would leave it behind.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prunelake.errors import LakeError
from prunelake.lake.storage.leases import hold_lease
from prunelake.lake.storage.location import Location
from prunelake.lake.storage.objects import ObjectPath

PUBLISH_LOCK = ".publish.lock"
MAINTENANCE_LOCK = ".maintenance.lock"
"""A process that needs both locks takes the publish lock first."""


@contextmanager
def locked(
    lake: Location, lock_file: str, wait: bool = True, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold a lock of the lake in the block, so that one process at a time does some work.

    The lock ends with the process. If another process holds it, `on_wait` is called once, and this
    process waits.

    Raises:
        LakeError: another process holds the lock and `wait` is false.
    """
    if isinstance(lake, ObjectPath):
        with hold_lease(lake / lock_file, wait, on_wait) as is_held:
            if not is_held:
                raise _held_error(lake, lock_file)
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
                    raise _held_error(lake, lock_file) from None
                if on_wait:
                    on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            # A removed lock file locks nobody out: another process creates a new one.
            if os.fstat(lock.fileno()).st_nlink:
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _held_error(lake: Location, lock_file: str) -> LakeError:
    return LakeError(
        f"{lake} is being maintained by another process ({lock_file} is held); try again when it "
        "has ended"
    )
