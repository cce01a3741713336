"""Find the blocks of a decoder, and the modules of each block that can be removed."""

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.spec import Unit

ATTENTION_NAMES = ("self_attn", "attention")
ATTENTION_OUTPUT_NAMES = ("o_proj", "dense", "out_proj")
MLP_NAMES = ("mlp",)
MLP_OUTPUT_NAMES = ("down_proj", "dense_4h_to_h")


@dataclass(frozen=True)
class AttentionLayer:
    """A block of a decoder, its attention, and the output projection of the attention."""

    block: nn.Module
    attention: nn.Module
    projection: nn.Module


@dataclass(frozen=True)
class RemovableModule:
    """A module whose output a block adds to the residual stream, and its output projection.

    An attention returns a tuple whose first element is added; an MLP returns the tensor itself.
    """

    module: nn.Module
    projection: nn.Module
    is_attention: bool


def attention_layers(model: PreTrainedModel) -> tuple[AttentionLayer, ...]:
    """The attention layers of a decoder, input first.

    Raises:
        UnsupportedModel: a block or module was not found; the message names it and its block.
    """
    blocks = getattr(model.base_model, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not blocks:
        raise unsupported_model_error(model, "its decoder has no such list")
    layers = []
    for number, block in enumerate(blocks):
        attention = _first_child_named(block, ATTENTION_NAMES)
        if attention is None:
            raise unsupported_model_error(model, f"block {number} has no such attention")
        projection = _first_child_named(attention, ATTENTION_OUTPUT_NAMES)
        if projection is None:
            raise unsupported_model_error(
                model, f"the attention of block {number} has no such projection"
            )
        layers.append(AttentionLayer(block, attention, projection))
    return tuple(layers)


def removable_modules(
    model: PreTrainedModel, unit: Unit
) -> tuple[tuple[RemovableModule, ...], ...]:
    """For each block, input first, the modules that make up `unit`, in the order they run.

    Raises:
        UnsupportedModel: as `attention_layers`; or a block without an MLP that could be removed.
    """
    modules: list[tuple[RemovableModule, ...]] = []
    for number, layer in enumerate(attention_layers(model)):
        attention = RemovableModule(layer.attention, layer.projection, is_attention=True)
        if unit == "attention":
            modules.append((attention,))
            continue
        mlp = _first_child_named(layer.block, MLP_NAMES)
        projection = mlp and _first_child_named(mlp, MLP_OUTPUT_NAMES)
        if mlp is None or projection is None:
            raise UnsupportedModel(
                f"{type(model).__name__} is supported for attention layers only: looked for an MLP "
                f"named {' or '.join(MLP_NAMES)} in each block, which ends in a projection named "
                f"{' or '.join(MLP_OUTPUT_NAMES)}, but block {number} has none"
            )
        mlp_module = RemovableModule(mlp, projection, is_attention=False)
        modules.append((mlp_module,) if unit == "mlp" else (attention, mlp_module))
    return tuple(modules)


def unsupported_model_error(model: PreTrainedModel, problem: str) -> UnsupportedModel:
    """An error that describes the expected structure of a model and the problem with this one."""
    return UnsupportedModel(
        f"{type(model).__name__} is not supported: looked for a list `layers` of blocks, each with "
        f"an attention named {' or '.join(ATTENTION_NAMES)} that ends in a projection named "
        f"{', '.join(ATTENTION_OUTPUT_NAMES)}, but {problem}"
    )


def _first_child_named(module: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    children = dict(module.named_children())
    return next((children[name] for name in names if name in children), None)
