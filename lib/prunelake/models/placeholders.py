"""Placeholders for removed modules: they have no weights and take no space in the KV cache."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from prunelake.models.decoder_map import attention_layers, removable_modules


class ZeroWidthCacheLayer(DynamicLayer):
    """The cache layer of a removed attention: it counts the tokens, in keys of width 0.

    Models ask the first layer of a cache for its number of tokens, and a plain DynamicLayer with
    empty keys answers 0.
    """

    def get_seq_length(self) -> int:
        """The number of tokens that this layer has seen."""
        return 0 if self.keys is None else self.keys.shape[-2]


class AttentionPlaceholder(nn.Module):
    """Adds zero to the residual stream, like an attention whose output projection is zero.

    Args:
        layer: the number of its block, which is also the number of its cache layer.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.o_proj = nn.Identity()  # so that `decoder_map.attention_layers` finds a projection

    def forward(
        self,
        hidden_states: Tensor,
        *_: Any,
        past_key_values: Cache | None = None,
        layer_past: Cache | None = None,  # the name of the cache in GPT-NeoX
        **__: Any,
    ) -> tuple[Tensor, None]:
        """Zeros in the shape of `hidden_states`, and None for the attention weights."""
        cache = layer_past if past_key_values is None else past_key_values
        if cache is not None:
            _extend_cache(cache, self.layer, hidden_states)
        return torch.zeros_like(hidden_states), None


class MLPPlaceholder(nn.Module):
    """Adds zero to the residual stream, like an MLP whose down projection is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.down_proj = nn.Identity()  # so that `decoder_map.removable_modules` finds a projection

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Zeros in the shape of `hidden_states`."""
        return torch.zeros_like(hidden_states)


@dataclass(frozen=True)
class Replacement:
    """A module that was replaced: its block, its name in the block, and the module itself."""

    block: nn.Module
    name: str
    module: nn.Module

    def undo(self) -> None:
        """Put the module back into its block."""
        setattr(self.block, self.name, self.module)


def replace_with_placeholders(
    model: PreTrainedModel, attention: Collection[int], mlps: Collection[int] = ()
) -> list[Replacement]:
    """Replace the attention of some blocks and the MLPs of some blocks by placeholders.

    A block that loses both also loses its norms, which would only feed placeholders. After an
    error the model is whole again.

    Args:
        model: it is changed.
        attention: the numbers of the blocks that lose their attention.
        mlps: the numbers of the blocks that lose their MLP.

    Returns:
        The replaced modules, each with the means to put it back.

    Raises:
        UnsupportedModel: as `decoder_map.removable_modules`.
    """
    blocks = attention_layers(model)
    modules = removable_modules(model, "mlp") if mlps else ()
    replacements: list[Replacement] = []

    def replace(block: nn.Module, module: nn.Module, placeholder: nn.Module) -> None:
        name = next(name for name, child in block.named_children() if child is module)
        replacements.append(Replacement(block, name, module))
        setattr(block, name, placeholder)

    try:
        for number, layer in enumerate(blocks):
            if number in attention:
                replace(layer.block, layer.attention, AttentionPlaceholder(number))
        for number, (mlp,) in enumerate(modules):
            block = blocks[number].block
            if number in mlps:
                replace(block, mlp.module, MLPPlaceholder())
            if number in mlps and number in attention:
                for child in [*block.children()]:
                    if any(True for _ in child.parameters()):
                        replace(block, child, nn.Identity())
    except BaseException:
        for replacement in replacements:
            replacement.undo()
        raise
    return replacements


def placeholder_layers(
    model: PreTrainedModel, kind: type[nn.Module] = AttentionPlaceholder
) -> tuple[int, ...]:
    """The numbers of the blocks that hold a placeholder of `kind`, input first."""
    return tuple(
        number
        for number, layer in enumerate(attention_layers(model))
        if any(isinstance(child, kind) for child in layer.block.children())
    )


def _extend_cache(cache: Cache, layer: int, hidden_states: Tensor) -> None:
    """Count the tokens of `hidden_states` [rows, tokens, width] in one layer of a cache."""
    if cache.layer_class_to_replicate is not None:  # a cache that grows layer by layer
        while len(cache.layers) <= layer:
            cache.layers.append(cache.layer_class_to_replicate())
    cache_layer = cache.layers[layer]
    # Static and sliding layers count their tokens themselves.
    is_growing = isinstance(cache_layer, DynamicLayer) and not cache_layer.is_sliding
    if is_growing and not isinstance(cache_layer, ZeroWidthCacheLayer):
        cache.layers[layer] = ZeroWidthCacheLayer()  # type: ignore[no-untyped-call]  # nor is its parent
    rows, tokens, _ = hidden_states.shape
    empty = hidden_states.new_empty(rows, 1, tokens, 0)
    cache.update(empty, empty, layer)
