"""Memory for activations, the same in every process, and the errors of too little memory."""

import torch
from transformers import PreTrainedModel

CPU_ACTIVATION_BYTES = 2**31
"""Memory for activations on a CPU, beside the weights."""

GPU_RESERVED_BYTES = 2**31
"""Memory that torch's allocator cannot give out: the driver's context, libraries, gaps."""

OUT_OF_MEMORY_SIGNS = ("out of memory", "alloc_failed", "can't allocate memory")
"""Parts, in lower case, of the messages of other errors than `torch.OutOfMemoryError`: of CUDA, of
cuBLAS, cuDNN and cuSOLVER (`CUBLAS_STATUS_ALLOC_FAILED`), and of the CPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that a device lacks memory, so that less work may succeed."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in message for sign in OUT_OF_MEMORY_SIGNS)


def is_device_failure(error: BaseException) -> bool:
    """Whether an error of torch says that a GPU failed, so that its process can use it no more."""
    kind = getattr(torch, "AcceleratorError", None)  # since torch 2.8
    return kind is not None and isinstance(error, kind) and not is_out_of_memory(error)


def activation_bytes(model: PreTrainedModel) -> int:
    """Memory for the activations of one batch.

    On GPUs it is half of the memory that the weights leave free, on the GPU with the least free
    memory. It follows from the model and the GPU alone: free memory also depends on the blocks that
    torch's allocator keeps, so a later shard would get other batches, and other last bits.
    """
    weights: dict[torch.device, int] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        weights[tensor.device] = weights.get(tensor.device, 0) + tensor.nbytes
    left = [
        torch.cuda.get_device_properties(device).total_memory - GPU_RESERVED_BYTES - used
        for device, used in weights.items()
        if device.type == "cuda"
    ]
    return max(min(left) // 2, 1) if left else CPU_ACTIVATION_BYTES
