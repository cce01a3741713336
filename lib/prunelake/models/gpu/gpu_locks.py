"""Lock GPUs, so that one sweep has a GPU for itself.

A lock is a file in a folder that all sweeps of a machine share, named by the id of the GPU. The
operating system frees it when its process ends, also after a kill. Containers on one machine share
a lock if they mount the same folder, because its files are then the same files.
"""

import fcntl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from prunelake.errors import ModelError, one_line

SECONDS_BETWEEN_TRIES = 1.0

_held: dict[str, IO[str]] = {}


def lock_first_free(
    uuids: Sequence[str], folder: Path, log: Callable[[str], None], is_shared: bool = False
) -> str:
    """Lock one of these GPUs until this process ends, and wait while all are taken; its id.

    A GPU that this process holds already comes first. Processes with `is_shared` share a lock; they
    wait only for a process that wants the GPU alone.

    Raises:
        ModelError: `folder` cannot be written.
    """
    for uuid in uuids:
        if uuid in _held:
            return uuid
    files = {uuid: _lock_file(folder, uuid) for uuid in uuids}
    taken = f"GPU {uuids[0]} is" if len(uuids) == 1 else f"all {len(uuids)} GPUs are"
    mode = (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    is_waiting = False
    while True:
        for uuid, file in files.items():
            try:
                fcntl.flock(file, mode)
            except BlockingIOError:
                continue
            _held[uuid] = file
            for other in files.keys() - {uuid}:
                files[other].close()
            return uuid
        if not is_waiting:
            log(f"{taken} taken by another sweep: waiting for its end")
            is_waiting = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def lock_all(
    uuids: Sequence[str], folder: Path, log: Callable[[str], None], is_shared: bool = False
) -> None:
    """Lock all these GPUs until this process ends, and wait for each.

    Raises:
        ModelError: as `lock_first_free`.
    """
    for uuid in sorted(uuids):  # in one order, so that two processes never wait for each other
        lock_first_free([uuid], folder, log, is_shared)


def _lock_file(folder: Path, uuid: str) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / f"{uuid}.lock").open("w")
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written ({one_line(error)}); set PRUNELAKE_LOCKS to a folder that "
            "all sweeps of this machine can write"
        ) from error
