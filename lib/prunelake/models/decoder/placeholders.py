"""Put placeholders in the place of modules of a model, and the modules back."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.models.decoder.block_parts import BlockPart, block_norms
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks
from prunelake.models.decoder.modeling_prunelake import (
    AbsentPart,
    Placeholder,
    ResidualPlaceholder,
    silence,
)


@dataclass(frozen=True)
class Replacement:
    """A part that was replaced, and the means to put it back."""

    module: nn.Module
    undo: Callable[[], None]


def replace_with_placeholders(
    model: PreTrainedModel, absent: Sequence[AbsentPart], without_norms: Collection[int] = ()
) -> list[Replacement]:
    """Replace parts of a model by placeholders.

    A part that another layer reads stays, and adds nothing. After an error the model is whole
    again.

    Args:
        model: it is changed.
        absent: the parts to replace.
        without_norms: the indices of the blocks that also lose their norms, which would only feed
            placeholders.

    Returns:
        The replaced modules, each with the means to put it back.

    Raises:
        UnsupportedModel: as `decoder_map.decoder_blocks`; or a part that several blocks share.
    """
    blocks = {block.index: block for block in decoder_blocks(model)}
    check_not_shared(blocks.values(), absent)
    replacements: list[Replacement] = []

    def replace(block: nn.Module, name: str, placeholder: nn.Module) -> None:
        path, _, own_name = name.rpartition(".")
        parent = block.get_submodule(path)
        module = parent.get_submodule(own_name)
        undo = partial(setattr, parent, own_name, module)
        replacements.append(Replacement(module, undo))
        setattr(parent, own_name, placeholder)

    try:
        for part in absent:
            block = blocks[part.block]
            found = next(own for own in block.parts if own.name == part.name)
            if found.is_read_later:
                replacements.append(_silence(found, part))
                continue
            kind = ResidualPlaceholder if found.adds_residual else Placeholder
            replace(block.module, part.name, kind(part))
        for index in without_norms:
            for name in block_norms(blocks[index].module):
                replace(blocks[index].module, name, nn.Identity())
    except BaseException:
        for replacement in replacements:
            replacement.undo()
        raise
    return replacements


def check_not_shared(blocks: Collection[DecoderBlock], absent: Sequence[AbsentPart]) -> None:
    """Refuse parts that other blocks need.

    Raises:
        UnsupportedModel: weights that several blocks share, of which only some would lose them.
    """
    chosen = {(part.block, part.name) for part in absent}
    every = [(block.index, part) for block in blocks for part in block.parts]
    keeping = {
        id(parameter): index
        for index, part in every
        if (index, part.name) not in chosen
        for parameter in part.module.parameters()
    }
    for index, part in every:
        needed = [keeping[id(p)] for p in part.module.parameters() if id(p) in keeping]
        if (index, part.name) in chosen and needed:
            raise UnsupportedModel(
                f"blocks {index} and {needed[0]} share the weights of {part.name} "
                f"({type(part.module).__name__}); these weights cannot be absent, or zero, "
                "in only some of these blocks"
            )


def absent_parts(model: PreTrainedModel) -> tuple[AbsentPart, ...]:
    """The parts that placeholders stand for, input first."""
    marks = (
        getattr(part.module, "absent", None)
        for block in decoder_blocks(model)
        for part in block.parts
    )
    return tuple(mark for mark in marks if isinstance(mark, AbsentPart))


def _silence(part: BlockPart, absent: AbsentPart) -> Replacement:
    module: Any = part.module
    silence(module, absent)

    def undo() -> None:
        del module.forward, module.absent

    return Replacement(module, undo)
