"""Run a model with modules of its blocks removed, or save a model without them."""

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
    """Run `model` without a unit of `layers`: the attention, the MLP, or both.

        with removed(model, [3, 5], "attention"):
            logits = model(input_ids=ids, use_cache=False).logits

    The removed modules return zeros; on exit the model is whole again, also after an error. Not for
    decoding with a cache, since a cache without its first layer reports length 0: see `detached`.

    Raises:
        UnknownLayer: a layer that the model does not have.
        UnsupportedModel: MLPs that could not be found.
    """
    with ExitStack() as stack:
        for selected in _selected_modules(model, layers, unit):
            zero = _zero_attention if selected.is_attention else _zero_mlp
            stack.enter_context(replaced_forward(selected.module, partial(_replace_forward, zero)))
        yield


@contextmanager
def detached(
    model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention"
) -> Iterator[list[nn.Module]]:
    """Run `model` with a unit of `layers` really absent, also when it decodes with a cache.

    The detached modules are neither computed nor cached, and their weights are not among the
    model's parameters. The `with` block receives them, for instance to move them off a device. On
    exit the model is whole again, also after an error.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    _selected_modules(model, layers, unit)
    replacements = replace_with_placeholders(
        model, layers if unit != "mlp" else (), layers if unit != "attention" else ()
    )
    try:
        yield [replacement.module for replacement in replacements]
    finally:
        for replacement in replacements:
            replacement.undo()


def zero_out(model: PreTrainedModel, layers: Collection[int], unit: Unit = "attention") -> None:
    """Set the output projections of a unit of `layers` to zero, permanently.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    for selected in _selected_modules(model, layers, unit):
        for parameter in selected.projection.parameters():
            parameter.data.zero_()


def save_compact(
    model: PreTrainedModel, layers: Collection[int], folder: Path, unit: Unit = "attention"
) -> None:
    """Save a model without a unit of `layers`, and without the modules that it lacks already.

    `loading.load_model` loads it. transformers alone refuses it, by the model type in config.json
    and, for the model's own class, by the file name of the weights; otherwise it would fill in
    random weights.

    Raises:
        UnknownLayer, UnsupportedModel: as `removed`.
    """
    left_out = {id(selected.module) for selected in _selected_modules(model, layers, unit)}
    attention, mlps = {*placeholder_layers(model)}, {*placeholder_layers(model, MLPPlaceholder)}
    if unit != "mlp":
        attention |= {*layers}
    if unit != "attention":
        mlps |= {*layers}
    blocks = attention_layers(model)
    left_out |= {id(blocks[number].block) for number in attention & mlps}
    prefixes = tuple(f"{name}." for name, module in model.named_modules() if id(module) in left_out)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(prefixes)}
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
    modules = removable_modules(model, unit)
    for layer in layers:
        if not 0 <= layer < len(modules):
            raise UnknownLayer(f"layer {layer}: the model has layers 0 to {len(modules) - 1}")
    return [module for layer in sorted({*layers}) for module in modules[layer]]


@contextmanager
def replaced_forward(module: nn.Module, wrap: Callable[[Forward], Forward]) -> Iterator[None]:
    """Replace a module's `forward` by `wrap(forward)`, and restore it on exit."""
    # Tools like accelerate also set `forward` on the instance, so restore theirs.
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
    """The hidden states [rows, tokens, width] among the arguments of a block or of its modules."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden


def _replace_forward(replacement: Forward, _: Forward) -> Forward:
    return replacement


def _zero_attention(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    return _zero_mlp(*args, **kwargs), None


def _zero_mlp(*args: Any, **kwargs: Any) -> Tensor:
    return torch.zeros_like(hidden_states(args, kwargs))
