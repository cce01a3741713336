"""Leases: locks in an object store that expire, so that another process can take over.

A lease is one object. Every few seconds its holder renews it: it replaces the content of the
object, but only if the content is still what it wrote last. A waiting process watches the tag of
the object. If the tag has not changed for TIME_TO_LIVE seconds by the clock of the waiting process,
the holder is dead, and the waiting process writes its own content. Clocks of two machines are never
compared. A suspended holder stops in time: it counts the time since the start of its last renewal,
and stops acting before another process may take over.
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
from prunelake.lake.storage.objects import ObjectPath

TIME_TO_LIVE = 30.0
"""Seconds without renewal after which another process may take over a lease."""

RENEWALS_PER_TTL = 6

TRUSTED_SHARE = 2 / 3
"""The share of TIME_TO_LIVE during which a holder acts without renewing its lease."""

# CLOCK_BOOTTIME also counts while a machine sleeps; not every system has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_held_leases: "set[Lease]" = set()


class Lease:
    """One lease, held by this process from `acquire` to `release`."""

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._holder = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        self._renewal_count = 0
        self._etag: str | None = None
        self._renewed_at = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def acquire(self, wait: bool, on_wait: Callable[[], None] | None) -> None:
        """Hold the lease as soon as its holder has released it or is dead.

        Raises:
            LakeError: another process holds it and `wait` is false, or the store refuses.
        """
        is_waiting = False
        last_etag, seen_since = "", 0.0
        while not self._put(None):
            try:
                _, etag, _ = self.path.read_with_etag()
            except FileNotFoundError:
                continue
            if etag != last_etag:
                # A lease has a living holder only if it was renewed while this process watched.
                if last_etag and not wait:
                    raise held_error(self.path.parent, self.path.name)
                last_etag, seen_since = etag, _clock_seconds()
            elif _clock_seconds() - seen_since > TIME_TO_LIVE and self._put(etag):
                break
            if on_wait and not is_waiting:
                is_waiting = True
                on_wait()
            _sleep(TIME_TO_LIVE / RENEWALS_PER_TTL / 5)
        self._thread.start()
        _held_leases.add(self)

    def require_held(self) -> None:
        """Raise unless this process certainly still holds the lease.

        Raises:
            LakeError: another process may have taken it over.
        """
        if self._etag is None or _clock_seconds() - self._renewed_at > TIME_TO_LIVE * TRUSTED_SHARE:
            raise LakeError(
                f"{self.path} was not renewed for {TIME_TO_LIVE * TRUSTED_SHARE:g} s, and another "
                "process may write now; committed files stay: run the command again for the rest"
            )

    def release(self) -> None:
        """Remove the lease, so that another process can create it."""
        _held_leases.discard(self)
        self._is_over.set()
        self._thread.join()
        if self._etag is not None:
            with suppress(LakeError):  # otherwise the lease expires
                self.path.remove(self._etag)

    def _put(self, old_etag: str | None) -> bool:
        """Replace the content with this tag, or create the object; False if another process did."""
        began_at = _clock_seconds()
        self._renewal_count += 1
        content = json.dumps({"holder": self._holder, "beat": self._renewal_count}).encode()
        etag = (
            self.path.create(content) if old_etag is None else self.path.replace(content, old_etag)
        )
        if etag is not None:
            self._etag, self._renewed_at = etag, began_at
        return etag is not None

    def _renew(self) -> None:
        while self._etag and not self._is_over.wait(TIME_TO_LIVE / RENEWALS_PER_TTL):
            with suppress(LakeError):  # the store may answer the next renewal
                if not self._put(self._etag):
                    self._etag = self._etag_if_owned()

    def _etag_if_owned(self) -> str | None:
        """The tag of a renewal whose response was lost; None if another process holds the lease."""
        try:
            content, etag, _ = self.path.read_with_etag()
        except FileNotFoundError:
            return None
        return etag if json.loads(content)["holder"] == self._holder else None


@contextmanager
def hold_lease(
    path: ObjectPath, wait: bool = True, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold a lease in the block; `on_wait` is called once if another process holds it.

    Raises:
        LakeError: another process holds it and `wait` is false, or it was lost meanwhile.
    """
    lease = Lease(path)
    lease.acquire(wait, on_wait)
    try:
        yield
        lease.require_held()
    finally:
        lease.release()


def require_leases(path: ObjectPath) -> None:
    """Raise unless this process certainly still holds all its leases over the folder of an object.

    Raises:
        LakeError: a lease may have been lost.
    """
    for lease in tuple(_held_leases):
        if path.is_relative_to(lease.path.parent):
            lease.require_held()


def held_error(lake: object, lock_file: str) -> LakeError:
    """The error of a lock that another process holds, in a folder or in a store."""
    return LakeError(
        f"{lake} is being written by another process ({lock_file} is held); try again when the "
        "sweep, compaction or publisher has ended"
    )


def _clock_seconds() -> float:
    return time.clock_gettime(_CLOCK)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)
