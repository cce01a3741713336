"""Batches of rows: how many tokens run together, by speed and by memory."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedModel

from prunelake.inference.prefix_tree import PrefixTree
from prunelake.models.loading import text_config
from prunelake.models.memory import activation_bytes

CPU_BATCH_TOKENS = 4096
"""Tokens that a CPU runs together: more are not faster."""

GPU_BATCH_TOKENS = 2**17
"""Tokens that a GPU runs together, if its memory holds them."""

CPU_LOGIT_ELEMENTS = 2**25
"""Logits in memory at a time on a CPU: 128 MiB in float32 for any vocabulary."""

GPU_LOGIT_ELEMENTS = 2**28
"""Logits in memory at a time on a GPU: 1 GiB in float32, 1,024 positions of 262,144 tokens."""

GPU_LENGTH_MULTIPLE = 16
"""Lengths of batches on a GPU: some kernels are chosen or compiled anew for each length."""

MAX_PADDING_SHARE = 1 / 16
"""Share of the budget: a batch with more padding costs more than another pass."""


class TokenBudget:
    """The number of tokens x levels that run together. It shrinks when a batch did not fit."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self) -> None:
        """Allow half as many tokens from now on, but at least one."""
        self.tokens = max(1, self.tokens // 2)


def max_tokens_in_memory(model: PreTrainedModel) -> int:
    """The number of tokens that fit into memory, by the widest activations of a block."""
    config = text_config(model)
    widest = 8 * config.hidden_size + 4 * (getattr(config, "intermediate_size", None) or 0)
    return max(1, int(activation_bytes(model) / (widest * model.dtype.itemsize)))


def max_gradient_tokens(model: PreTrainedModel) -> int:
    """The number of tokens whose backward pass fits into memory.

    A backward pass keeps activations of every block; a Llama of 7B keeps 4.4 MB for each token in
    bfloat16. A test counts them for small models.
    """
    config = text_config(model)
    in_block = 10 * config.hidden_size + 4 * (getattr(config, "intermediate_size", None) or 0)
    kept = config.num_hidden_layers * in_block * model.dtype.itemsize
    return max(1, int(activation_bytes(model) / kept))


def fastest_batch_tokens(model: PreTrainedModel) -> int:
    """The number of tokens x levels beyond which the model's device gets no faster."""
    return CPU_BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS


def length_multiple(model: PreTrainedModel) -> int:
    """The number of which the length of each batch is a multiple."""
    return GPU_LENGTH_MULTIPLE if model.device.type == "cuda" else 1


def max_logit_rows(model: PreTrainedModel) -> int:
    """The number of positions whose logits are computed together."""
    elements = CPU_LOGIT_ELEMENTS if model.device.type == "cpu" else GPU_LOGIT_ELEMENTS
    vocabulary_size: int = text_config(model).vocab_size
    return max(1, elements // vocabulary_size)


def batches(rows: Sequence[PrefixTree], budget: TokenBudget) -> Iterator[list[int]]:
    """Indices of rows that run together: rows of like length, shorter rows first.

    A batch holds at most `budget` tokens x levels, but at least one row. The budget may shrink
    between two batches.
    """
    batch: list[int] = []
    levels = used = 0  # in the batch; `used` is tokens x levels without padding
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n].tokens)):
        row, row_levels = rows[n], len(rows[n].levels)
        used += row_levels * len(row.tokens)
        tokens = (levels + row_levels) * len(row.tokens)
        limit = budget.tokens
        if batch and (tokens > limit or tokens - used > limit * MAX_PADDING_SHARE):
            yield batch
            batch, levels, used = [], 0, row_levels * len(row.tokens)
        batch.append(n)
        levels += row_levels
    if batch:
        yield batch
