"""Leases: locks in an object store that expire, so that another process can take over.

A lease is one object. Every few seconds its holder renews it: it replaces the content of the
object, but only if the content is still what it wrote last. A waiting process watches the tag of
the object. If the tag has not changed for TIME_TO_LIVE seconds by the clock of the waiting process,
the holder is dead, and the waiting process writes its own content. Clocks of two machines are never
compared. A suspended holder may continue after another process has taken over: leases only avoid
duplicate work.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from prunelake.errors import LakeError
from prunelake.lake.storage.objects import ObjectPath, Tag

TIME_TO_LIVE = 30.0
"""Seconds without renewal after which another process may take over a lease."""

RENEWALS_PER_TTL = 6

# CLOCK_BOOTTIME also counts while a machine sleeps; not every system has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Lease:
    """One lease, held by this process from `acquire` to `release`."""

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._holder = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        self._renewal_count = 0
        self._tag: Tag | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, wait: bool, on_wait: Callable[[], None] | None) -> bool:
        """Hold the lease as soon as its holder has released it or is dead.

        Returns False if another process holds it and `wait` is false.

        Raises:
            LakeError: the store refuses.
        """
        is_waiting = False
        last_tag: Tag | None = None
        seen_since = 0.0
        while not self._put(None):
            try:
                _, tag, _ = self.path.read_with_tag()
            except FileNotFoundError:
                continue
            if tag != last_tag:
                # A lease has a living holder only if it was renewed while this process watched.
                if last_tag and not wait:
                    return False
                last_tag, seen_since = tag, _clock_seconds()
            elif _clock_seconds() - seen_since > TIME_TO_LIVE and self._put(tag):
                break
            if on_wait and not is_waiting:
                is_waiting = True
                on_wait()
            _sleep(TIME_TO_LIVE / RENEWALS_PER_TTL / 5)
        self._thread.start()
        return True

    def release(self) -> None:
        """Remove the lease, so that another process can create it."""
        self._is_over.set()
        self._thread.join()
        if self._tag is not None:
            with suppress(LakeError):  # otherwise the lease expires
                self.path.remove(self._tag)

    def _put(self, old_tag: Tag | None) -> bool:
        """Replace the content with this tag, or create the object; False if another process did."""
        # A renewal whose response was lost is sent again as it was: the store then has its content.
        content = json.dumps({"holder": self._holder, "beat": self._renewal_count}).encode()
        tag = self.path.create(content) if old_tag is None else self.path.replace(content, old_tag)
        if tag is not None:
            self._tag = tag
            self._renewal_count += 1
        return tag is not None

    def _renew(self) -> None:
        while self._tag and not self._is_over.wait(TIME_TO_LIVE / RENEWALS_PER_TTL):
            with suppress(LakeError):  # the store may answer the next renewal
                if not self._put(self._tag):
                    self._tag = None  # another process holds the lease


@contextmanager
def hold_lease(
    path: ObjectPath, wait: bool = True, on_wait: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Hold a lease in the block; `on_wait` is called once if another process holds it.

    The block gets False if another process holds it and `wait` is false.
    """
    lease = Lease(path)
    is_held = lease.acquire(wait, on_wait)
    try:
        yield is_held
    finally:
        if is_held:
            lease.release()


def _clock_seconds() -> float:
    return time.clock_gettime(_CLOCK)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)
