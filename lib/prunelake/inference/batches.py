"""Batches of rows: how many tokens run together, by speed and by memory."""

from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import PreTrainedModel

from prunelake.inference.prefix_tree import PrefixTree
from prunelake.models.loading import text_config

CPU_BATCH_TOKENS = 4096
"""Tokens that a CPU runs together: more are not faster."""

GPU_BATCH_TOKENS = 2**17
"""Tokens that a GPU runs together, if its memory holds them."""

MAX_PADDING_SHARE = 1 / 16
"""Share of the budget: a batch with more padding costs more than another pass."""

CPU_ACTIVATION_BYTES = 2**31
"""Memory for activations on a CPU, beside the weights."""


def max_tokens_in_memory(model: PreTrainedModel) -> int:
    """The number of tokens that fit into memory, by the widest activations of a block."""
    config = text_config(model)
    widest = 8 * config.hidden_size + 4 * (getattr(config, "intermediate_size", None) or 0)
    free = CPU_ACTIVATION_BYTES
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0] // 2
    return max(1, int(free / (widest * model.dtype.itemsize)))


def fastest_batch_tokens(model: PreTrainedModel) -> int:
    """The number of tokens x levels beyond which the model's device gets no faster."""
    return CPU_BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS


def batches(rows: Sequence[PrefixTree], budget: Callable[[], float]) -> Iterator[list[int]]:
    """Indices of rows that run together: rows of like length, shorter rows first.

    A batch holds at most `budget()` tokens x levels, but at least one row. The budget may shrink
    between two batches.
    """
    batch: list[int] = []
    levels = used = 0  # in the batch; `used` is tokens x levels without padding
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n].tokens)):
        row, row_levels = rows[n], len(rows[n].levels)
        used += row_levels * len(row.tokens)
        tokens = (levels + row_levels) * len(row.tokens)
        limit = budget()
        if batch and (tokens > limit or tokens - used > limit * MAX_PADDING_SHARE):
            yield batch
            batch, levels, used = [], 0, row_levels * len(row.tokens)
        batch.append(n)
        levels += row_levels
    if batch:
        yield batch
