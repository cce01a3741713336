"""The map of a decoder: its blocks, and in each block what mixes tokens and what the MLP is.

    blocks = decoder_blocks(model)
    parts = removable_parts(model, "attention")

The map is found by structure, so it also works for a model without weights. `decoder_probe` shows
by a pass whether the model computes as the map says.
"""

import re
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.models.decoder.block_parts import (
    MIXER_NAMES,
    BlockPart,
    Kind,
    block_parts,
    reads_encoder,
)
from prunelake.spec import UNIT_NAMES, Unit

BLOCK_LIST_NAMES = ("layers", "h", "blocks")
OTHER_TOWERS = re.compile(r"vision|visual|image|audio|speech|encoder|tower|codec|patcher", re.I)
"""The names of modules beside the decoder that have blocks of their own."""

UNIT_KINDS: dict[Unit, tuple[Kind, ...]] = {
    "attention": ("attention",),
    "mlp": ("mlp", "experts"),
    "block": ("attention", "linear_attention", "state_space", "convolution", "mlp", "experts"),
    "linear_attention": ("linear_attention",),
    "state_space": ("state_space",),
    "expert": ("experts",),
}
"""The kinds of parts that make up each unit."""


@dataclass(frozen=True)
class DecoderBlock:
    """A block of a decoder: its index in the model's list, its module and its parts."""

    index: int
    module: nn.Module
    parts: tuple[BlockPart, ...]


def decoder_blocks(model: PreTrainedModel) -> tuple[DecoderBlock, ...]:
    """The blocks that text runs through, input first.

    Blocks that only look at images, as in Mllama, are left out: text passes them by.

    Raises:
        UnsupportedModel: no such blocks, or blocks that no decoder has; the message names them.
    """
    found: list[DecoderBlock] = []
    for index, block in enumerate(_block_list(model)):
        parts = block_parts(block, len(found))
        mixers = [part for part in parts if part.mixes_tokens]
        if reads_encoder(block):
            if mixers:
                raise UnsupportedModel(
                    f"{type(model).__name__} is not supported: block {index} also attends to the "
                    "output of an encoder; only decoders are supported"
                )
            continue
        if not parts:
            children = ", ".join(f"{n}: {type(c).__name__}" for n, c in block.named_children())
            raise UnsupportedModel(
                f"{type(model).__name__} is not supported: block {index} has neither a known "
                f"mixer of tokens nor an MLP; it has {children or 'no modules'}"
            )
        found.append(DecoderBlock(index, block, parts))
    return tuple(found)


def removable_parts(model: PreTrainedModel, unit: Unit) -> tuple[tuple[BlockPart, ...], ...]:
    """For each block that has `unit`, input first, the parts that make it up.

    So attention layer 0 is the first block with a softmax attention, and level k lacks k of them.

    Raises:
        UnsupportedModel: as `decoder_blocks`; or no block has this unit.
    """
    blocks = decoder_blocks(model)
    kinds = UNIT_KINDS[unit]
    found = [tuple(part for part in block.parts if part.kind in kinds) for block in blocks]
    if not any(found):
        raise UnsupportedModel(
            f"{type(model).__name__} has no {UNIT_NAMES[unit]}: {_block_description(blocks[0])}; "
            f"use the unit {' or '.join(_units_of(blocks))}"
        )
    return tuple(parts for parts in found if parts)


def _block_list(model: PreTrainedModel) -> nn.ModuleList:
    """The list of the decoder's blocks."""
    decoder = model.get_decoder()
    lists: dict[str, nn.ModuleList] = {}
    for name, module in decoder.named_modules():
        path = name.split(".")
        is_inner = any(name.startswith(f"{outer}.") for outer in lists)
        is_other = is_inner or any(OTHER_TOWERS.search(step) for step in path[:-1])
        if isinstance(module, nn.ModuleList) and path[-1] in BLOCK_LIST_NAMES and not is_other:
            lists[name] = module
    if not lists or not len(next(iter(lists.values()))):
        raise UnsupportedModel(
            f"{type(model).__name__} is not supported: looked for a decoder's blocks in a list "
            f"named {', '.join(BLOCK_LIST_NAMES)}, but it has none; encoders are not supported"
        )
    if len(lists) > 1:
        raise UnsupportedModel(
            f"{type(model).__name__} is not supported: its decoder has several lists of blocks "
            f"({', '.join(lists)}), and only one is supported"
        )
    return next(iter(lists.values()))


def _block_description(block: DecoderBlock) -> str:
    """The part that mixes tokens, in words: "block 0 mixes tokens with M, a state space"."""
    mixers = [
        f"{type(part.module).__name__}, {MIXER_NAMES[part.kind]}"
        for part in block.parts
        if part.mixes_tokens
    ]
    if not mixers:
        return f"block {block.index} mixes no tokens"
    return f"block {block.index} mixes tokens with {' and '.join(mixers)}"


def _units_of(blocks: tuple[DecoderBlock, ...]) -> list[Unit]:
    kinds = {part.kind for block in blocks for part in block.parts}
    return [unit for unit, own in UNIT_KINDS.items() if kinds & {*own}]
