"""Choose the device to compute on, and lock its GPUs."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from prunelake.errors import ModelError, one_line
from prunelake.models.gpu.device_names import ALL_GPUS, DEVICE_CHOICES
from prunelake.models.gpu.gpu_locks import lock_all, lock_first_free


def acquire_device(
    requested: str, locks: Path, log: Callable[[str], None], is_shared: bool = False
) -> str:
    """The device to compute on: `cpu`, `mps`, `cuda:N`, or `cuda:all` for all visible GPUs.

    A GPU is locked, by its own id, until this process ends; while all possible GPUs are taken, this
    call waits. A CPU is never locked.

    Args:
        requested: `auto` is the first visible GPU that is free, or the CPU if there is no GPU.
            `cuda` is the same, but requires a GPU. `cuda:N` is one GPU. `cuda:all` are all visible
            GPUs.
        locks: the folder of the lock files (`gpu_locks`).
        log: receives a line that names the device, and a line before this call waits.
        is_shared: hold the lock together with other processes that share it. Ray assigns GPUs, or
            shares of them, to its workers, so Ray decides which of them meet on one GPU. The lock
            then only keeps out processes that want the GPU alone, such as the sweeps of a Prefect
            worker on the same machine.

    Raises:
        ModelError: no such GPU, or locks that cannot be written.
    """
    if requested == "auto" and not torch.cuda.is_available():
        log("no GPU here: computing on the CPU")
        return "cpu"
    if requested != "auto" and not requested.startswith("cuda"):
        log(f"computing on {requested}, as the settings say")
        return requested
    try:
        if not torch.cuda.is_available():
            raise RuntimeError("torch finds no GPU: check the driver with nvidia-smi")
        is_one = requested not in ("auto", "cuda", ALL_GPUS)
        names = [requested] if is_one else [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        properties = [torch.cuda.get_device_properties(name) for name in names]
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _unusable(requested, error) from error
    uuids = [str(gpu.uuid) for gpu in properties]
    if requested == ALL_GPUS:
        lock_all(uuids, locks, log, is_shared)
        log(f"computing on {', '.join(names)}, {gpu_names([gpu.name for gpu in properties])}")
        return ALL_GPUS
    place = uuids.index(lock_first_free(uuids, locks, log, is_shared))
    log(f"computing on {names[place]}, {properties[place].name}")
    return names[place]


def check_device(device: str) -> None:
    """Check that torch can allocate memory on a device.

    Raises:
        ModelError: no such device, or torch was built without it.
    """
    try:
        torch.empty(1, device="cuda" if device == ALL_GPUS else device)
    except (RuntimeError, AssertionError) as error:
        raise _unusable(device, error) from error


def short_device_name(*devices: torch.device) -> str:
    """The name of a model's GPUs, or `cpu`: where a run was computed."""
    gpus = [torch.cuda.get_device_name(device) for device in devices if device.type == "cuda"]
    return gpu_names(gpus) if gpus else str(devices[0])


def gpu_names(names: Sequence[str]) -> str:
    """The names of GPUs; equal names are counted: `2 x NVIDIA H100`."""
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())


def device_name(*devices: torch.device) -> str:
    """The name of a model's devices; for a CPU with the number of threads that torch uses.

    A profile is measured on a device of this name.
    """
    if any(device.type == "cuda" for device in devices):
        return short_device_name(*devices)
    threads = torch.get_num_threads()
    return f"{_cpu_model_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _unusable(device: str, error: Exception) -> ModelError:
    return ModelError(
        f"device {device!r} cannot be used ({one_line(error)}); set PRUNELAKE_DEVICE to "
        f"{DEVICE_CHOICES}"
    )


def _cpu_model_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
