"""Run a model with attention layers removed; it is whole again afterwards."""

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.models import attention_layers

Forward = Callable[..., Any]


@contextmanager
def removed(model: PreTrainedModel, layers: Collection[int]) -> Iterator[None]:
    """Run `model` without the attention of `layers`; their MLPs still run.

    One loaded model serves a whole sweep: the attention is put back on exit, also after an error.
    Not for cached decoding: a removed first layer leaves the cache at length 0.

    Raises:
        UnknownLayer: a layer that the model does not have.
    """
    found = attention_layers(model)
    for layer in layers:
        if not 0 <= layer < len(found):
            raise UnknownLayer(f"layer {layer}: the model has layers 0 to {len(found) - 1}")
    with ExitStack() as stack:
        for layer in set(layers):
            stack.enter_context(replaced_forward(found[layer].attention, lambda _: _nothing))
        yield


@contextmanager
def replaced_forward(module: nn.Module, wrap: Callable[[Forward], Forward]) -> Iterator[None]:
    """Let `wrap(forward)` answer for a module's forward, and put the module back on exit."""
    # Tools like accelerate set `forward` on the instance; what was there is what comes back.
    before = module.__dict__.get("forward")
    module.forward = wrap(module.forward)
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def attention_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states [rows, tokens, width] among the arguments of an attention or a block."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _nothing(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    return torch.zeros_like(attention_input(args, kwargs)), None
