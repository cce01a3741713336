"""Number formats: the type that stores the weights, and the precision of multiplication."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from prunelake.errors import ModelError
from prunelake.models.gpu.device_names import FLOAT32_SLOWDOWN
from prunelake.spec import Dtype, weight_format

MATMUL_PRECISION_ATTRIBUTE = "prunelake_matmul_precision"
"""The attribute of a loaded model that holds the precision of its float32 multiplications."""

USES_CUDNN_ATTENTION = False
"""Whether GPUs may take the attention of cuDNN."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
MALLOC_THRESHOLD_BYTES = 2**30


def weight_dtype(dtype: Dtype) -> torch.dtype:
    """The torch type of a model's weights."""
    stored: torch.dtype = getattr(torch, weight_format(dtype))
    return stored


def set_matmul_precision(model: PreTrainedModel, dtype: Dtype) -> None:
    """Store in `model` the precision of its number format; `matmul_precision` applies it.

    Raises:
        ModelError: for `float32_bf16`, a device that does not multiply float32 in bfloat16; for
            `tf32`, a device without TF32.
    """
    if dtype == "tf32":
        setattr(model, MATMUL_PRECISION_ATTRIBUTE, "high")
        if model.device.type != "cuda" or torch.cuda.get_device_capability(model.device) < (8, 0):
            raise ModelError(
                f"{model.device} does not multiply in TF32 (NVIDIA GPUs since Ampere do); take "
                "dtype float32 or bfloat16"
            )
    if dtype == "float32_bf16":
        setattr(model, MATMUL_PRECISION_ATTRIBUTE, "medium")
        if model.device.type != "cpu" or not _matmul_rounds_to_bfloat16(model):
            raise ModelError(
                f"{model.device} does not multiply float32 in bfloat16 (a CPU with AMX or "
                "AVX512-BF16 does); take dtype float32 or bfloat16"
            )


@contextmanager
def matmul_precision(model: PreTrainedModel) -> Iterator[None]:
    """Multiply in the precision that `model` was loaded for, and restore the former one on exit.

    Attention meanwhile does without cuDNN, which plans anew for each shape of a batch: a nested
    pass has a new shape wherever levels part. (`benchmarks.llama --cudnn` measures the other way.)
    The settings belong to the whole process, so two threads must not compute at the same time.
    """
    before = torch.get_float32_matmul_precision()
    had_cudnn_attention = torch.backends.cuda.cudnn_sdp_enabled()
    torch.set_float32_matmul_precision(getattr(model, MATMUL_PRECISION_ATTRIBUTE, "highest"))
    torch.backends.cuda.enable_cudnn_sdp(USES_CUDNN_ATTENTION)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cuda.enable_cudnn_sdp(had_cudnn_attention)


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed, which saves asking for fresh pages each time.

    Does nothing with another C library.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MALLOC_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, MALLOC_THRESHOLD_BYTES)


def slow_format_warning(dtype: Dtype, device: str) -> str | None:
    """A warning about a number format that wastes a GPU; None without a reason to warn."""
    if dtype != "float32" or not device.startswith("cuda"):
        return None
    return (
        f"warning: float32 takes about {FLOAT32_SLOWDOWN} times as long as bfloat16 on a GPU "
        "(estimated for an H100); --dtype bfloat16 or tf32 is faster, and makes another run"
    )


def _matmul_rounds_to_bfloat16(model: PreTrainedModel) -> bool:
    """Whether this CPU really rounds float32 factors to bfloat16 when it multiplies them."""
    left = torch.full((256, 256), 1 + 2**-12)
    with matmul_precision(model):
        return bool((left @ torch.eye(256) == 1).all())
