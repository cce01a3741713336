"""Batches of rows: how many tokens run together, by speed and by memory."""

from collections.abc import Iterator, Sequence

from transformers import PretrainedConfig, PreTrainedModel

from prunelake.inference.lengths import CPU_LENGTHS, GPU_LENGTHS, RowLengths
from prunelake.inference.prefix_tree import PrefixTree
from prunelake.models.decoder.text_model import text_config
from prunelake.models.gpu.memory import activation_bytes

CPU_BATCH_TOKENS = 4096
"""Tokens that a CPU runs together: more are not faster."""

GPU_BATCH_TOKENS = 2**17
"""Tokens that a GPU runs together, if its memory holds them."""

CPU_LOGIT_ELEMENTS = 2**25
"""Logits in memory at a time on a CPU: 128 MiB in float32 for any vocabulary."""

GPU_LOGIT_ELEMENTS = 2**28
"""Logits in memory at a time on a GPU: 1 GiB in float32, 1,024 positions of 262,144 tokens."""


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
    widest = 8 * config.hidden_size + 4 * _inner_width(config)
    return max(1, int(activation_bytes(model) / (widest * model.dtype.itemsize)))


def max_gradient_tokens(model: PreTrainedModel) -> int:
    """The number of tokens whose backward pass fits into memory.

    A backward pass keeps activations of every block; a Llama of 7B keeps 4.4 MB for each token in
    bfloat16. A test counts them for small models.
    """
    config = text_config(model)
    in_block = 10 * config.hidden_size + 4 * _inner_width(config)
    kept = config.num_hidden_layers * in_block * model.dtype.itemsize
    return max(1, int(activation_bytes(model) / kept))


def _inner_width(config: PretrainedConfig) -> int:
    """The width inside of the widest MLP; 0 if the configuration does not name it."""
    inner = getattr(config, "intermediate_size", None) or 0
    return inner if isinstance(inner, int) else max(inner)  # Gemma 3n names one for each block


def fastest_batch_tokens(model: PreTrainedModel) -> int:
    """The number of tokens x levels beyond which the model's device gets no faster."""
    return CPU_BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS


def row_lengths(model: PreTrainedModel) -> RowLengths:
    """The lengths of rows that suit the model's device."""
    return GPU_LENGTHS if model.device.type == "cuda" else CPU_LENGTHS


def max_logit_rows(model: PreTrainedModel) -> int:
    """The number of positions whose logits are computed together."""
    elements = CPU_LOGIT_ELEMENTS if model.device.type == "cpu" else GPU_LOGIT_ELEMENTS
    vocabulary_size: int = text_config(model).vocab_size
    return max(1, elements // vocabulary_size)


def batches(
    rows: Sequence[PrefixTree], budget: TokenBudget, lengths: RowLengths = CPU_LENGTHS
) -> Iterator[list[int]]:
    """Indices of rows that run together: rows of like length, shorter rows first.

    A batch holds at most `budget` tokens x levels, but at least one row, and as much padding as
    `lengths` allow. The budget may shrink between two batches.
    """
    batch: list[int] = []
    levels = used = longest = 0  # in the batch; `used` is tokens x levels without padding
    for n in sorted(range(len(rows)), key=lambda n: len(rows[n].tokens)):
        count, row_levels = len(rows[n].tokens), len(rows[n].levels)
        length = lengths.padded(count)
        tokens = (levels + row_levels) * length
        padding = tokens - used - row_levels * count
        is_too_padded = padding > lengths.allowed_padding(tokens, budget.tokens)
        if batch and (tokens > budget.tokens or (length > longest and is_too_padded)):
            yield batch
            batch, levels, used = [], 0, 0
        batch.append(n)
        levels += row_levels
        used += row_levels * count
        longest = length
    if batch:
        yield batch
