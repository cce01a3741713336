"""Kinds of failures: failures of a machine, which may be gone at once, and failures of a model."""

import errno
import socket
from collections.abc import Iterator

from prunelake.errors import HubUnreachable, PrefectUnavailable, RayUnavailable

MACHINE_ERRORS = (
    MemoryError,
    ConnectionError,
    TimeoutError,
    socket.gaierror,
    HubUnreachable,
    PrefectUnavailable,
    RayUnavailable,
)

MACHINE_ERROR_NUMBERS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
}
"""Of the disk, of memory and of a network file system."""

MACHINE_ERROR_NAMES = {
    "ConnectionError",  # requests and botocore
    "Timeout",  # requests
    "TransportError",  # httpx
    "LocalEntryNotFoundError",  # the hub's client, when the hub does not answer
    "OutOfMemoryError",  # torch
}
"""Errors of packages that this package does not load, by the names of their classes."""


def is_machine_failure(error: BaseException) -> bool:
    """Whether an error has its cause in the machine: memory, disk, network, a server.

    The same sweep may succeed on another machine, or later. Other errors have their cause in the
    model or the data.
    """
    return any(map(_is_machine_error, _causes(error)))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_machine_error(error: BaseException) -> bool:
    if isinstance(error, MACHINE_ERRORS):
        return True
    if isinstance(error, OSError) and error.errno in MACHINE_ERROR_NUMBERS:
        return True
    return any(kind.__name__ in MACHINE_ERROR_NAMES for kind in type(error).__mro__)
