"""Where the weights of a model lie: on one GPU, or spread over all visible GPUs."""

from typing import Any

import torch
from accelerate import infer_auto_device_map
from accelerate.utils import compute_module_sizes, get_balanced_memory
from transformers import PreTrainedModel

from prunelake.errors import ModelError
from prunelake.models.gpu.device_names import ALL_GPUS

DeviceMap = dict[str, Any]
"""Maps the names of modules to devices, as accelerate does; "" is the whole model."""


def gpu_device_map(skeleton: PreTrainedModel, device: str, reference: str) -> DeviceMap:
    """Where each module goes: all to one GPU, or whole blocks spread evenly over all visible GPUs.

    Args:
        skeleton: the model without weights, in its number format (`checkpoints.skeleton`).
        device: `cuda:N` or `cuda:all`.
        reference: the model's name in the error.

    Raises:
        ModelError: the weights do not fit into the free memory of these GPUs.
    """
    is_spread = device == ALL_GPUS
    gpus = range(torch.cuda.device_count()) if is_spread else [torch.device(device).index or 0]
    free = {gpu: free_bytes(gpu) for gpu in gpus}
    needed = int(compute_module_sizes(skeleton)[""])
    found: DeviceMap = {"": gpus[0]}
    if len(free) > 1:
        whole = {"no_split_module_classes": skeleton._no_split_modules, "dtype": skeleton.dtype}
        balanced = get_balanced_memory(skeleton, {**free}, **whole)
        found = infer_auto_device_map(skeleton, balanced, **whole)
    if needed > sum(free.values()) or {"cpu", "disk"} & {*found.values()}:
        raise ModelError(
            f"model {reference} takes {needed / 1e9:.1f} GB in {str(skeleton.dtype)[6:]}, and "
            f"{device} has {sum(free.values()) / 1e9:.1f} GB free on {len(free)} "
            f"GPU{'s' if len(free) > 1 else ''}; take a smaller dtype, "
            f"{'more or ' if is_spread else 'PRUNELAKE_DEVICE=cuda:all to use all GPUs, or '}"
            "larger GPUs"
        )
    return found


def free_bytes(gpu: int) -> int:
    """The memory of a GPU that this process can still get, with blocks that its allocator keeps."""
    free: int = torch.cuda.mem_get_info(gpu)[0]
    return free + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


def model_devices(model: PreTrainedModel) -> tuple[torch.device, ...]:
    """The devices that hold a model; the device that takes its input comes first."""
    return tuple(dict.fromkeys(parameter.device for parameter in model.parameters()))
