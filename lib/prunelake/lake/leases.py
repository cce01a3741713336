"""Locks in an object store: leases that their holders renew, and that others take over from dead.

A lease is one object. Its holder puts a new content into it every few seconds, only ever in place
of its own last one. Who waits watches its tag: once that has not changed for TIME_TO_LIVE seconds
by the waiter's own clock, the holder is dead and the waiter puts its own content in its place. No
times of two machines are compared. A holder that was only asleep finds out: it counts from before
its last renewal, and gives up earlier than a waiter takes over.
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
from prunelake.lake.objects import ObjectPath

TIME_TO_LIVE = 30.0
RENEWALS_PER_TTL = 6  # renewals in that time
TRUSTED_SHARE = 2 / 3  # the part of it in which a holder that has not renewed still acts

# The one clock goes on while a machine sleeps; the other is what systems without it have.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_held_leases: "set[Lease]" = set()


class Lease:
    """One lease, held by this process from `take` to `release`."""

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._holder = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        self._renewal_count = 0
        self._etag: str | None = None
        self._renewed_at = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, waits: bool, waiting: Callable[[], None] | None) -> None:
        """Hold it, when its holder has released it or is dead.

        Raises:
            LakeError: another one is alive, and this one does not wait; a store that refuses.
        """
        told = False
        seen, since = "", 0.0
        while not self._put(None):
            try:
                _, etag, _ = self.path.read_with_etag()
            except FileNotFoundError:
                continue
            if etag != seen:
                if seen and not waits:
                    raise LakeError(
                        f"{self.path.parent} is being written by another process "
                        f"({self.path.name} is held); ask again when the sweep, compaction or "
                        "publisher has ended"
                    )
                seen, since = etag, _clock_seconds()
            elif _clock_seconds() - since > TIME_TO_LIVE and self._put(etag):
                break
            if waiting and not told:
                told = True
                waiting()
            time.sleep(TIME_TO_LIVE / RENEWALS_PER_TTL / 5)
        self._thread.start()
        _held_leases.add(self)

    def require_held(self) -> None:
        """Raise unless it is surely still held.

        Raises:
            LakeError: another process may have taken it over.
        """
        if self._etag is None or _clock_seconds() - self._renewed_at > TIME_TO_LIVE * TRUSTED_SHARE:
            raise LakeError(
                f"{self.path} was not renewed for {TIME_TO_LIVE * TRUSTED_SHARE:g} s, and another "
                "process may write now; what was committed stays, ask again for the rest"
            )

    def release(self) -> None:
        """Let others take it."""
        _held_leases.discard(self)
        self._is_over.set()
        self._thread.join()
        if self._etag is not None:
            with suppress(LakeError):  # then it is taken over as that of a dead one
                self.path.remove(self._etag)

    def _put(self, before: str | None) -> bool:
        """Put a new content in the place of what has this tag, None being nothing."""
        began = _clock_seconds()
        self._renewal_count += 1
        content = json.dumps({"holder": self._holder, "beat": self._renewal_count}).encode()
        etag = self.path.create(content) if before is None else self.path.replace(content, before)
        if etag is not None:
            self._etag, self._renewed_at = etag, began
        return etag is not None

    def _renew(self) -> None:
        while self._etag and not self._is_over.wait(TIME_TO_LIVE / RENEWALS_PER_TTL):
            with suppress(LakeError):  # a store that is away for a moment
                if not self._put(self._etag):
                    self._etag = self._etag_if_owned()

    def _etag_if_owned(self) -> str | None:
        """The tag of a renewal whose answer was lost; None where another one holds it."""
        try:
            content, etag, _ = self.path.read_with_etag()
        except FileNotFoundError:
            return None
        return etag if json.loads(content)["holder"] == self._holder else None


@contextmanager
def hold_lease(
    path: ObjectPath, waits: bool = True, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold a lease in the block; `waiting` is called where another one holds it.

    Raises:
        LakeError: another process holds it, and this one does not wait; or it was lost meanwhile.
    """
    lease = Lease(path)
    lease.acquire(waits, waiting)
    try:
        yield
        lease.require_held()
    finally:
        lease.release()


def require_leases(path: ObjectPath) -> None:
    """Raise unless every lease of this process over the folder of an object is surely still held.

    Raises:
        LakeError: one is not.
    """
    for lease in tuple(_held_leases):
        if path.is_relative_to(lease.path.parent):
            lease.require_held()


def _clock_seconds() -> float:
    return time.clock_gettime(_CLOCK)
