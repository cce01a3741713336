"""A model of transformers without some modules of its blocks, for transformers 4.57 and 5.

`prunelake export --kind compact --with-code` puts this file beside the weights, with the classes of
the model in the line below. It needs torch and transformers only.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import Version
from torch import Tensor, nn
from transformers import Cache, cache_utils
from transformers import LlamaConfig as BaseConfig
from transformers import LlamaForCausalLM as BaseModel

MODEL_TYPE = "prunelake_compact"


class ZeroWidthCacheLayer(cache_utils.DynamicLayer):
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
    - `kind`: attention, mlp, ...
    - `extras`: the number of values behind its output in a tuple; None for a plain tensor.
    - `width`: the width of its output.
    - `is_list`: the values are a list in place of a tuple.
    """

    block: int
    name: str
    kind: str
    extras: int | None
    width: int
    is_list: bool = False


class Placeholder(nn.Module):
    """Adds zero to the residual stream, like a part whose output weights are zero.

    `part_kind` tells PruneLake the kind of the absent part.
    """

    def __init__(self, absent: AbsentPart) -> None:
        super().__init__()
        self.absent = absent
        self.part_kind = absent.kind

    def forward(self, hidden_states: Tensor, *further: Any, **named: Any) -> Any:
        """Zeros in the shape of the part's output, in its form; a recurrent state is handed on."""
        if self.absent.kind == "attention":
            for value in (*further, *named.values()):
                if isinstance(value, Cache):
                    extend_cache(value, self.absent.block, hidden_states, named)
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


def silence(part: nn.Module, absent: AbsentPart) -> None:
    """Let a part add nothing, though it computes values that another layer reads."""
    module: Any = part
    forward = module.forward

    def add_nothing(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        if isinstance(output, tuple | list):
            return type(output)([torch.zeros_like(output[0]), *output[1:]])
        return torch.zeros_like(output)

    module.forward, module.absent = add_nothing, absent


def extend_cache(
    cache: Cache, layer: int, hidden_states: Tensor, arguments: dict[str, Any]
) -> None:
    """Count the tokens of `hidden_states` [rows, tokens, width] in one layer of a cache.

    `arguments` are those of the attention; in transformers 4 they have the positions in the cache.
    """
    if cache.layer_class_to_replicate is not None:  # a cache that grows layer by layer
        while len(cache.layers) <= layer:
            cache.layers.append(cache.layer_class_to_replicate())
    cache_layer: Any = cache.layers[layer]  # its class depends on the version of transformers
    if isinstance(cache_layer, getattr(cache_utils, "DummyLayer", ())):
        return  # this layer reads the keys of another layer
    rows, tokens, _ = hidden_states.shape
    # A static layer of transformers 4 counts the keys that are not zero. A layer that also holds a
    # recurrent state counts the tokens of its keys. So they get keys of the least width.
    has_state = isinstance(cache_layer, getattr(cache_utils, "LinearAttentionCacheLayerMixin", ()))
    is_growing = isinstance(cache_layer, cache_utils.DynamicLayer)
    is_counting = isinstance(cache_layer, ZeroWidthCacheLayer) or has_state
    if is_growing and not cache_layer.is_sliding and not is_counting:
        layer_class: Any = ZeroWidthCacheLayer
        cache.layers[layer] = layer_class()
    keys = hidden_states.new_ones(rows, 1, tokens, int(has_state or not is_growing))
    positions = arguments.get("cache_position")
    cache.update(keys, keys, layer, *([] if positions is None else [{"cache_position": positions}]))


class CompactConfig(BaseConfig):
    """The configuration of the whole model, and the modules that the checkpoint lacks.

    `absent_modules` has the form, by path, of each absent module: placeholder, residual, silent, or
    identity for a norm.
    """

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The content of config.json as one level."""
        content, unused = super().get_config_dict(*args, **kwargs)
        needed = content["needs_transformers"]
        if Version(transformers.__version__) < Version(needed):
            raise ImportError(
                f"this checkpoint needs transformers {needed} or newer, and this is "
                f"{transformers.__version__}"
            )
        own = {name: value for name, value in content.items() if name != "config"}
        config = {**own, "own_names": [*own], **content["config"]}
        return config | {"transformers_weights": content["weights"]}, unused

    def to_diff_dict(self) -> dict[str, Any]:
        """The content of config.json."""
        config = super().to_diff_dict()
        names = config.pop("own_names", [])
        config.pop("transformers_weights", None)
        model_type = {"model_type": MODEL_TYPE}
        own = {
            name: config.pop(name) for name in names if name in config and name not in model_type
        }
        return model_type | own | {"config": {"model_type": self.model_type, **config}}


class CompactForCausalLM(BaseModel):
    """The model without the modules that its configuration names."""

    config_class = CompactConfig

    def __init__(self, config: CompactConfig) -> None:
        """Build the whole model, and replace its absent modules before weights load."""
        super().__init__(config)
        for path, (form, part) in config.absent_modules.items():
            if form == "silent":
                silence(self.get_submodule(path), AbsentPart(**part))
                continue
            parent, _, name = path.rpartition(".")
            module: nn.Module = nn.Identity()
            if form != "identity":
                kind = ResidualPlaceholder if form == "residual" else Placeholder
                module = kind(AbsentPart(**part))
            for setting, value in vars(self.get_submodule(path)).items():
                if isinstance(value, bool) and not hasattr(module, setting):
                    setattr(module, setting, value)  # a block of transformers 4 reads `is_sliding`
            setattr(self.get_submodule(parent), name, module)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load the model; missing weights are an error, as transformers would make them random."""
        wants_report = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, report = loaded
        if report["missing_keys"]:
            raise ValueError(
                f"the checkpoint lacks {len(report['missing_keys'])} weights, first "
                f"{min(report['missing_keys'])}"
            )
        return (model, report) if wants_report else model

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the model, for instance after training, in the same form."""
        if kwargs.get("push_to_hub"):
            raise ValueError("save the model to a folder, and upload this folder")
        super().save_pretrained(save_directory, *args, **kwargs)
        folder = Path(save_directory)
        # By their own name, these files would load into a whole model with random weights.
        for file in folder.glob("model*.safetensors*"):
            file = file.rename(folder / file.name.replace("model", "compact", 1))
            if file.suffix == ".json":
                file.write_text(file.read_text().replace('"model-', '"compact-'))
        (weights,) = {*folder.glob("compact.safetensors*")}
        config = json.loads((folder / "config.json").read_text())
        text = json.dumps(config | {"weights": weights.name}, indent=2) + "\n"
        (folder / "config.json").write_text(text)
        if Path(__file__).parent != folder.resolve():
            shutil.copy(__file__, folder)
