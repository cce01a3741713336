"""Send indices to a device without waiting for it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = Sequence[int] | NDArray[np.int64]


def send_indices(parts: Sequence[Indices], device: torch.device) -> tuple[Tensor, ...]:
    """Each part as a tensor of integers on `device`; all go there in one copy.

    A GPU gets them from pinned memory, so that this process need not wait until the GPU has done
    all its work.
    """
    joined = torch.from_numpy(np.concatenate([np.asarray(part, np.int64) for part in parts]))
    return torch.split(send(joined, device), [len(part) for part in parts])


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on `device`, copied from pinned memory if that is a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
