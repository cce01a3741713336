"""Choose the device to compute on; lock a GPU, so that one process has it for itself."""

import fcntl
import platform
from collections.abc import Callable
from pathlib import Path
from typing import IO

import torch

from prunelake.errors import ModelError, one_line

_gpu_locks: dict[str, IO[str]] = {}


def acquire_device(
    requested: str, cache: Path, log: Callable[[str], None], is_shared: bool = False
) -> str:
    """The device to compute on: `auto` is a GPU if there is one, else the CPU.

    A GPU is locked, by its own id, until this process ends; while another process holds the lock,
    this call waits. The operating system releases the lock, also of a killed process. The lock
    binds all processes that use the same `cache`. A CPU is never locked.

    Args:
        requested: `auto`, `cpu`, `cuda` or `cuda:N`.
        cache: the folder that holds the lock files, in `devices`.
        log: receives a line that names the device, and a line before this call waits.
        is_shared: hold the lock together with other processes that share it. Ray assigns GPUs, or
            shares of them, to its workers, so Ray decides which of them meet on one GPU. The lock
            then only keeps out processes that want the GPU alone, such as the sweeps of a Prefect
            worker on the same machine.

    Raises:
        ModelError: no such GPU, or a cache that cannot be written.
    """
    has_gpu = torch.cuda.is_available()
    if requested == "auto" and not has_gpu:
        log("no GPU here: computing on the CPU")
        return "cpu"
    device = "cuda" if requested == "auto" else requested
    if not device.startswith("cuda") or not has_gpu:
        log(f"computing on {device}, as the settings say")
        return device
    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _unusable(device, error) from error
    _lock_gpu(str(properties.uuid), cache / "devices", log, is_shared)
    log(f"computing on {device}, {properties.name}")
    return device


def check_device(device: str) -> None:
    """Check that torch can allocate memory on a device.

    Raises:
        ModelError: no such device, or torch was built without it.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _unusable(device, error) from error


def short_device_name(device: torch.device) -> str:
    """The name of a GPU, or `cpu`: where a run was computed."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def device_name(device: torch.device) -> str:
    """The name of a device; for a CPU with the number of threads that torch uses.

    A profile is measured on a device of this name.
    """
    if device.type == "cuda":
        return short_device_name(device)
    threads = torch.get_num_threads()
    return f"{_cpu_model_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _unusable(device: str, error: Exception) -> ModelError:
    return ModelError(
        f"device {device!r} cannot be used ({one_line(error)}); set PRUNELAKE_DEVICE to auto, "
        "cpu, cuda or cuda:1"
    )


def _cpu_model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lock_gpu(uuid: str, folder: Path, log: Callable[[str], None], is_shared: bool) -> None:
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
    mode = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        log(f"GPU {uuid} is taken by another sweep: waiting for its end")
        fcntl.flock(lock, mode)
    _gpu_locks[uuid] = lock
