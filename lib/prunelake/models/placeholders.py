"""What stands in for parts of a block that are gone: no weights, and no width in the KV cache."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from prunelake.models.decoder_map import attention_layers, removable_modules


class ZeroWidthCacheLayer(DynamicLayer):
    """The place of a gone attention in a growing cache: keys without width, one a token.

    Models ask the first place of a cache how many tokens it holds, and a DynamicLayer whose keys
    have no numbers says none.
    """

    def get_seq_length(self) -> int:
        """The tokens seen."""
        return 0 if self.keys is None else self.keys.shape[-2]


class AttentionPlaceholder(nn.Module):
    """Adds nothing to the residual stream, as attention whose output projection is zero.

    Args:
        layer: its number among the blocks, which is its place in a cache.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.o_proj = nn.Identity()  # where `decoder_map.attention_layers` looks for one

    def forward(
        self,
        hidden_states: Tensor,
        *_: Any,
        past_key_values: Cache | None = None,
        layer_past: Cache | None = None,  # its name in GPT-NeoX
        **__: Any,
    ) -> tuple[Tensor, None]:
        """Zeros of the shape of `hidden_states`, and no attention weights."""
        cache = layer_past if past_key_values is None else past_key_values
        if cache is not None:
            _extend_cache(cache, self.layer, hidden_states)
        return torch.zeros_like(hidden_states), None


class MLPPlaceholder(nn.Module):
    """Adds nothing to the residual stream, as an MLP whose down projection is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.down_proj = nn.Identity()  # where `decoder_map.removable_modules` looks for one

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Zeros of the shape of `hidden_states`."""
        return torch.zeros_like(hidden_states)


def replace_with_placeholders(
    model: PreTrainedModel, attention: Collection[int], mlps: Collection[int] = ()
) -> list[tuple[nn.Module, str, nn.Module]]:
    """Put nothing in the place of the attention of some blocks and of the MLPs of some.

    A block that has lost both loses its norms, too: they are fed with nothing, or feed what is
    gone.

    Returns:
        What was there: its block, its name in that block, and the module.

    Raises:
        UnsupportedModel: as `decoder_map.removable_modules`.
    """
    gone: list[tuple[nn.Module, str, nn.Module]] = []
    found = removable_modules(model, "mlp") if mlps else ()

    def replace(block: nn.Module, child: nn.Module, stand_in: nn.Module) -> None:
        name = next(name for name, own in block.named_children() if own is child)
        setattr(block, name, stand_in)
        gone.append((block, name, child))

    for number, layer in enumerate(attention_layers(model)):
        if number in attention:
            replace(layer.block, layer.attention, AttentionPlaceholder(number))
    for number, (mlp,) in enumerate(found):
        block = attention_layers(model)[number].block
        if number in mlps:
            replace(block, mlp.module, MLPPlaceholder())
        if number in mlps and number in attention:
            for child in [*block.children()]:
                if any(True for _ in child.parameters()):
                    replace(block, child, nn.Identity())
    return gone


def placeholder_layers(
    model: PreTrainedModel, kind: type[nn.Module] = AttentionPlaceholder
) -> tuple[int, ...]:
    """The blocks of a loaded compact checkpoint that lack their attention, or MLP, by its kind."""
    return tuple(
        number
        for number, layer in enumerate(attention_layers(model))
        if any(isinstance(child, kind) for child in layer.block.children())
    )


def _extend_cache(cache: Cache, layer: int, hidden_states: Tensor) -> None:
    """Let a place in a cache know of more tokens; other kinds of places count by themselves."""
    if cache.layer_class_to_replicate is not None:  # a cache that grows place by place
        while len(cache.layers) <= layer:
            cache.layers.append(cache.layer_class_to_replicate())
    place = cache.layers[layer]
    is_growing = isinstance(place, DynamicLayer) and not place.is_sliding
    if is_growing and not isinstance(place, ZeroWidthCacheLayer):
        cache.layers[layer] = ZeroWidthCacheLayer()  # type: ignore[no-untyped-call]  # nor is its parent
    rows, tokens, _ = hidden_states.shape
    nothing = hidden_states.new_empty(rows, 1, tokens, 0)
    cache.update(nothing, nothing, layer)
