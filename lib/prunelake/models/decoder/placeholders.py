"""Placeholders for removed modules: they have no weights and take no space in the KV cache."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DummyLayer, DynamicLayer, LinearAttentionCacheLayerMixin

from prunelake.errors import UnsupportedModel
from prunelake.models.decoder.block_parts import BlockPart, Kind, block_norms
from prunelake.models.decoder.calls import first_value, with_first_value
from prunelake.models.decoder.decoder_map import DecoderBlock, decoder_blocks


class ZeroWidthCacheLayer(DynamicLayer):
    """The cache layer of a removed attention: it counts the tokens, in keys of width 0.

    Models ask the first layer of a cache for its number of tokens, and a plain DynamicLayer with
    empty keys answers 0.
    """

    def get_seq_length(self) -> int:
        """The number of tokens that this layer has seen."""
        return 0 if self.keys is None else self.keys.shape[-2]


@dataclass(frozen=True)
class AbsentPart:
    """A part that a model lacks, as a compact checkpoint stores it.

    - `block`: the index of its block in the model's list.
    - `name`: its name within the block.
    - `extras`: the number of values behind its output in a tuple; None for a plain tensor.
    - `width`: the width of its output.
    - `is_list`: the values are a list in place of a tuple.
    """

    block: int
    name: str
    kind: Kind
    extras: int | None
    width: int
    is_list: bool = False


class Placeholder(nn.Module):
    """Adds zero to the residual stream, like a part whose output weights are zero.

    `decoder_map` finds it by its kind.
    """

    def __init__(self, absent: AbsentPart) -> None:
        super().__init__()
        self.absent = absent
        self.part_kind = absent.kind

    def forward(self, hidden_states: Tensor, *further: Any, **named: Any) -> Any:
        """Zeros in the shape of the part's output, in its form; a recurrent state is handed on."""
        if self.absent.kind == "attention":
            caches = [value for value in (*further, *named.values()) if isinstance(value, Cache)]
            for cache in caches:
                _extend_cache(cache, self.absent.block, hidden_states)
        shape = (*hidden_states.shape[:-1], self.absent.width)
        return self._in_form(hidden_states.new_zeros(shape), named.get("state"))

    def _in_form(self, added: Tensor, state: Any = None) -> Any:
        if self.absent.extras is None:
            return added
        values = [added, *[state] * self.absent.extras]
        return values if self.absent.is_list else tuple(values)


class ResidualPlaceholder(Placeholder):
    """The placeholder of a part that adds its argument `residual` itself."""

    def forward(self, hidden_states: Tensor, residual: Tensor, *further: Any, **named: Any) -> Any:
        """The residual, in the form of the part's output."""
        super().forward(hidden_states, *further, **named)
        return self._in_form(residual)


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
                f"({type(part.module).__name__}); they cannot be gone, or be zero, in some of "
                "these blocks only"
            )


def absent_parts(model: PreTrainedModel) -> tuple[AbsentPart, ...]:
    """The parts that placeholders stand for, input first."""
    marks = (
        getattr(part.module, "absent", None)
        for block in decoder_blocks(model)
        for part in block.parts
    )
    return tuple(mark for mark in marks if isinstance(mark, AbsentPart))


def placeholder_layers(model: PreTrainedModel, kind: Kind = "attention") -> tuple[int, ...]:
    """The indices of the blocks that hold a placeholder of `kind`, input first."""
    return tuple(part.block for part in absent_parts(model) if part.kind == kind)


def _silence(part: BlockPart, absent: AbsentPart) -> Replacement:
    """Let a part add nothing, though it computes what another layer reads."""
    module: Any = part.module
    forward = module.forward

    def add_nothing(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        return with_first_value(output, torch.zeros_like(first_value(output)))

    def undo() -> None:
        del module.forward, module.absent

    module.forward, module.absent = add_nothing, absent
    return Replacement(module, undo)


def _extend_cache(cache: Cache, layer: int, hidden_states: Tensor) -> None:
    """Count the tokens of `hidden_states` [rows, tokens, width] in one layer of a cache."""
    if cache.layer_class_to_replicate is not None:  # a cache that grows layer by layer
        while len(cache.layers) <= layer:
            cache.layers.append(cache.layer_class_to_replicate())
    cache_layer = cache.layers[layer]
    if isinstance(cache_layer, DummyLayer):  # of a layer that reads the keys of another one
        return
    rows, tokens, _ = hidden_states.shape
    # Static and sliding layers count their tokens themselves. A layer that also holds a recurrent
    # state counts the tokens of its keys, so it gets keys of the least width.
    has_state = isinstance(cache_layer, LinearAttentionCacheLayerMixin)
    is_growing = isinstance(cache_layer, DynamicLayer) and not cache_layer.is_sliding
    if is_growing and not has_state and not isinstance(cache_layer, ZeroWidthCacheLayer):
        cache.layers[layer] = ZeroWidthCacheLayer()  # type: ignore[no-untyped-call]  # nor is its parent
    keys = hidden_states.new_zeros(rows, 1, tokens, int(has_state))
    cache.update(keys, keys, layer)
