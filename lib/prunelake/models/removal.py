"""Run a model with parts of its blocks removed, whole again afterwards; save one without them."""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import UnknownLayer
from prunelake.models.decoder_map import RemovableModule, attention_layers, removable_modules
from prunelake.models.loading import COMPACT_MODEL_TYPE
from prunelake.models.placeholders import (
    MLPPlaceholder,
    placeholder_layers,
    replace_with_placeholders,
)
from prunelake.spec import Unit

Forward = Callable[..., Any]


@contextmanager
def removed(
    model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention"
) -> Iterator[None]:
    """Run `model` without a unit of `layers`: their attention, their MLPs, or both.

    One loaded model serves a whole sweep: what is removed is back on exit, also after an error.
    Not for cached decoding: a removed first layer leaves the cache at length 0 (see `detached`).

    Raises:
        UnknownLayer: a layer that the model does not have.
        UnsupportedModel: MLPs that could not be found.
    """
    with ExitStack() as stack:
        for part in _selected_modules(model, layers, unit):
            nothing = _zero_attention if part.is_attention else _zero_mlp
            stack.enter_context(replaced_forward(part.module, partial(_replace_forward, nothing)))
        yield


@contextmanager
def detached(
    model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention"
) -> Iterator[list[nn.Module]]:
    """Run `model` really without a unit of `layers`, cached decoding included.

    Nothing of it is computed or cached, and its weights are not among the model's parameters. All
    is put back on exit, also after an error; the block is given the modules meanwhile, to move them
    off a device.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    _selected_modules(model, layers, unit)
    gone = replace_with_placeholders(
        model, layers if unit != "mlp" else (), layers if unit != "attention" else ()
    )
    try:
        yield [module for _, _, module in gone]
    finally:
        for block, name, module in gone:
            setattr(block, name, module)


def zero_out(model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention") -> None:
    """Zero the projections that end a unit of `layers`, for good: it then adds nothing.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    for part in _selected_modules(model, layers, unit):
        for parameter in part.projection.parameters():
            parameter.data.zero_()


def save_compact(
    model: PreTrainedModel, layers: Collection[int], folder: Path, unit: Unit = "attention"
) -> None:
    """Save a model without a unit of `layers`, and without what it lacks already.

    `loading.load_model` loads it. Plain loading by transformers fails at the model type and, where
    a
    model's own class is told to load it, at the name of the weights: it never makes up what is
    missing.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    gone = {id(part.module) for part in _selected_modules(model, layers, unit)}
    attention, mlps = {*placeholder_layers(model)}, {*placeholder_layers(model, MLPPlaceholder)}
    if unit != "mlp":
        attention |= {*layers}
    if unit != "attention":
        mlps |= {*layers}
    blocks = attention_layers(model)
    gone |= {id(blocks[number].block) for number in attention & mlps}
    within = tuple(f"{name}." for name, module in model.named_modules() if id(module) in gone)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(within)}
    save_torch_state_dict(
        weights, folder, filename_pattern="compact{suffix}.safetensors", metadata={"format": "pt"}
    )
    config = json.loads(model.config.to_json_string())
    config |= {"architectures": [type(model).__name__], "dtype": str(model.dtype).split(".")[-1]}
    marker = {
        "model_type": COMPACT_MODEL_TYPE,
        "loads_with": "prunelake.models.loading.load_model",
        "absent_attention": sorted(attention),
        "absent_mlp": sorted(mlps),
        "config": config,
    }
    text = json.dumps(marker, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def _selected_modules(
    model: PreTrainedModel, layers: Collection[int], unit: Unit
) -> list[RemovableModule]:
    found = removable_modules(model, unit)
    for layer in layers:
        if not 0 <= layer < len(found):
            raise UnknownLayer(f"layer {layer}: the model has layers 0 to {len(found) - 1}")
    return [part for layer in sorted({*layers}) for part in found[layer]]


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


def hidden_states(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states [rows, tokens, width] among the arguments of a block or a part of it."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _replace_forward(answer: Forward, _: Forward) -> Forward:
    return answer


def _zero_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    return _zero_mlp(*args, **kwargs), None


def _zero_mlp(*args: Any, **kwargs: Any) -> Tensor:
    return torch.zeros_like(hidden_states(args, kwargs))
