"""Run a model with attention layers removed, whole again afterwards; save one without them."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.models import COMPACT, AttentionLayer, absent_layers, attention_layers

Forward = Callable[..., Any]


@contextmanager
def removed(model: PreTrainedModel, layers: Collection[int]) -> Iterator[None]:
    """Run `model` without the attention of `layers`; their MLPs still run.

    One loaded model serves a whole sweep: the attention is put back on exit, also after an error.
    Not for cached decoding: a removed first layer leaves the cache at length 0.

    Raises:
        UnknownLayer: a layer that the model does not have.
    """
    with ExitStack() as stack:
        for layer in _chosen(model, layers):
            stack.enter_context(replaced_forward(layer.attention, lambda _: _nothing))
        yield


def zero_out(model: PreTrainedModel, layers: Collection[int]) -> None:
    """Zero the output projections of the attention of `layers`, for good: it then adds nothing.

    Raises:
        UnknownLayer: a layer that the model does not have.
    """
    for layer in _chosen(model, layers):
        for parameter in layer.projection.parameters():
            parameter.data.zero_()


def save_compact(model: PreTrainedModel, layers: Collection[int], folder: Path) -> None:
    """Save a model without the attention of `layers`, and without what it lacks already.

    `models.load` loads it. Plain loading by transformers fails at the model type and, where a
    model's own class is told to load it, at the name of the weights: it never makes up what is
    missing.

    Raises:
        UnknownLayer: a layer that the model does not have.
    """
    gone = {id(layer.attention) for layer in _chosen(model, layers)}
    within = tuple(f"{name}." for name, module in model.named_modules() if id(module) in gone)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(within)}
    save_torch_state_dict(
        weights, folder, filename_pattern="compact{suffix}.safetensors", metadata={"format": "pt"}
    )
    config = json.loads(model.config.to_json_string())
    config |= {"architectures": [type(model).__name__], "dtype": str(model.dtype).split(".")[-1]}
    marker = {
        "model_type": COMPACT,
        "loads_with": "prunelake.models.load",
        "absent_attention": sorted({*layers, *absent_layers(model)}),
        "config": config,
    }
    text = json.dumps(marker, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def _chosen(model: PreTrainedModel, layers: Collection[int]) -> list[AttentionLayer]:
    found = attention_layers(model)
    for layer in layers:
        if not 0 <= layer < len(found):
            raise UnknownLayer(f"layer {layer}: the model has layers 0 to {len(found) - 1}")
    return [found[layer] for layer in sorted({*layers})]


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
