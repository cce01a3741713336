"""Check the name of a device without loading torch."""

import re
import sys
from pathlib import Path

from prunelake.errors import ModelError

ALL_GPUS = "cuda:all"
"""The device of a model that is spread over all visible GPUs."""

DEVICE = re.compile(r"auto|cpu|mps|cuda(?::(?:([0-9]+)|all))?")
DEVICE_CHOICES = (
    "auto, cpu, cuda (a free GPU), cuda:N (the N-th GPU, from 0), cuda:all (a model that is spread "
    "over all GPUs) or mps"
)


FLOAT32_SLOWDOWN = 11
"""How many times longer than bfloat16 a sweep of 7B in float32 takes on an H100, estimated: a test
compares `planning.gpu_time`."""


def check_device_name(device: str) -> None:
    """Refuse a device that torch does not know, or a GPU that this machine lacks.

    Raises:
        ModelError: such a device.
    """
    match = DEVICE.fullmatch(device)
    if match is None:
        raise ModelError(f"PRUNELAKE_DEVICE={device}: no such device; choose {DEVICE_CHOICES}")
    count = gpu_count()
    if device.startswith("cuda") and count is not None and int(match[1] or 0) >= count:
        gpus = f"{count or 'no'} GPU{'s' if count > 1 else ''}"
        raise ModelError(
            f"PRUNELAKE_DEVICE={device}: this machine has {gpus}; choose {DEVICE_CHOICES}"
        )


def gpu_count() -> int | None:
    """The number of NVIDIA GPUs that Linux shows; None if it does not show them."""
    # AMD's GPUs, Windows' GPUs below WSL, and the GPUs of NVIDIA's boards
    other = [Path(name) for name in ("/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")]
    if sys.platform != "linux" or any(path.exists() for path in other):
        return None
    return len([*Path("/dev").glob("nvidia[0-9]*")])
