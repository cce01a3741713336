"""Number formats of a model: how its numbers are stored, and in what precision they multiply."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from prunelake.errors import ModelError
from prunelake.spec import Dtype

MATMUL_PRECISION_ATTRIBUTE = "prunelake_matmul_precision"
"""The attribute of a model that says in what precision its float32 matrices multiply."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MALLOC_THRESHOLD_BYTES = 2**30


def weight_dtype(dtype: Dtype) -> torch.dtype:
    """The type of a model's weights."""
    found: torch.dtype = getattr(torch, dtype.partition("_")[0])
    return found


def set_matmul_precision(model: PreTrainedModel, dtype: Dtype) -> None:
    """Let a model multiply as its number format says, wherever `matmul_precision` holds.

    Raises:
        ModelError: a device that does not multiply float32 in bfloat16.
    """
    if dtype == "float32_bf16":
        setattr(model, MATMUL_PRECISION_ATTRIBUTE, "medium")
        if model.device.type != "cpu" or not _matmul_rounds_to_bfloat16(model):
            raise ModelError(
                f"{model.device} does not multiply float32 in bfloat16 (a CPU with AMX or "
                "AVX512-BF16 does); take dtype float32 or bfloat16"
            )


@contextmanager
def matmul_precision(model: PreTrainedModel) -> Iterator[None]:
    """Multiply in the precision that the model was loaded for, whatever others in this process do.

    The setting is torch's, and of the whole process: models do not compute in two threads at once.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(getattr(model, MATMUL_PRECISION_ATTRIBUTE, "highest"))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed, instead of asking for fresh pages each time.

    Nothing where the C library is another one.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MALLOC_THRESHOLD_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, MALLOC_THRESHOLD_BYTES)


def _matmul_rounds_to_bfloat16(model: PreTrainedModel) -> bool:
    """Whether float32 factors are really rounded to bfloat16."""
    left = torch.full((256, 256), 1 + 2**-12)
    with matmul_precision(model):
        return bool((left @ torch.eye(256) == 1).all())
