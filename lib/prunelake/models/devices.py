"""One GPU, one job: who computes on a GPU has it alone, until the process ends."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO

import torch

from prunelake.errors import ModelError, one_line

_gpu_locks: dict[str, IO[str]] = {}


def acquire_device(
    wanted: str, cache: Path, say: Callable[[str], None], is_allotted: bool = False
) -> str:
    """The device to compute on; `auto` is a GPU where there is one. Waits while it is taken.

    A lock of the operating system holds a GPU, by its own id, for the life of this process: no
    process, killed or orphaned, can leave it behind or share it. It binds all who use the same
    `cache`. `say` is told which device it is, and what is waited for. A CPU is shared.

    A GPU that `is_allotted`, as Ray allots GPUs or shares of them to its workers, is held together
    with others to whom it is allotted: who shares it is not for this lock to say. It keeps out
    those who want one alone, such as the sweeps of a Prefect worker on the same machine.

    Raises:
        ModelError: no such GPU, or a cache that cannot be written.
    """
    is_there = torch.cuda.is_available()
    if wanted == "auto" and not is_there:
        say("no GPU here: computing on the CPU")
        return "cpu"
    device = "cuda" if wanted == "auto" else wanted
    if not device.startswith("cuda") or not is_there:
        say(f"computing on {device}, as the settings say")
        return device
    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"device {device!r} cannot be used ({one_line(error)}); set PRUNELAKE_DEVICE to auto, "
            "cpu, cuda or cuda:1"
        ) from error
    _lock_gpu(str(properties.uuid), cache / "devices", say, is_allotted)
    say(f"computing on {device}, {properties.name}")
    return device


def _lock_gpu(uuid: str, folder: Path, say: Callable[[str], None], is_allotted: bool) -> None:
    if uuid in _gpu_locks:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f"{uuid}.lock").open("w")
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written ({one_line(error)}); set PRUNELAKE_CACHE to a folder "
            "that can"
        ) from error
    how = fcntl.LOCK_SH if is_allotted else fcntl.LOCK_EX
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"GPU {uuid} is taken by another sweep: waiting for its end")
        fcntl.flock(lock, how)
    _gpu_locks[uuid] = lock
