"""Write a Llama without attention layers or MLPs in the format of the nemotron-nas models.

vLLM runs it with its class DeciLMForCausalLM, which skips the parts that config.json marks as
`no_op`. transformers runs it with the two files of `export.decilm`, which lie beside the weights.
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from transformers import PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.export.decilm import configuration_decilm, modeling_decilm
from prunelake.export.transformers4 import older_rope
from prunelake.spec import Unit

FFN_MULTIPLE = 256
"""vLLM rounds the width of an MLP that follows from `ffn_mult` up to a multiple of this number."""


def check_nemotron_nas(model: PreTrainedModel, layers: Collection[int], unit: Unit) -> None:
    """Refuse a model or level that vLLM's reader cannot express, with the reason.

    Raises:
        UnsupportedModel: no Llama, another unit than attention or MLPs, or no attention in block 0.
    """
    if unit == "block":
        raise UnsupportedModel(
            "--kind nemotron-nas: without whole blocks, a portable checkpoint is a plain smaller "
            "model, which vLLM runs as it is; take --kind portable"
        )
    if unit not in ("attention", "mlp") or model.config.model_type != "llama":
        raise UnsupportedModel(
            "--kind nemotron-nas: vLLM skips the attention or the MLP of a Llama only, and this is "
            f"a {model.config.model_type} model without {unit} layers; take --kind portable"
        )
    if unit == "attention" and 0 in layers:
        raise UnsupportedModel(
            "--kind nemotron-nas: vLLM starts the sum of its blocks' outputs at the attention of "
            "block 0, so block 0 needs it; take another level or strategy, or --kind portable"
        )


def save_nemotron_nas(
    model: PreTrainedModel,
    layers: Collection[int],
    unit: Unit,
    folder: Path,
    max_shard_size: str,
) -> None:
    """Save a model without a unit of `layers`, its configuration, and the code for transformers.

    Raises:
        UnsupportedModel: as `check_nemotron_nas`.
    """
    check_nemotron_nas(model, layers, unit)
    config = json.loads(model.config.to_json_string())
    config |= older_rope(config) | {
        "architectures": ["DeciLMForCausalLM"],
        "auto_map": {
            "AutoConfig": "configuration_decilm.DeciLMConfig",
            "AutoModelForCausalLM": "modeling_decilm.DeciLMForCausalLM",
        },
        "block_configs": [
            _block_config(config, unit if number in layers else None)
            for number in range(config["num_hidden_layers"])
        ],
        "dtype": str(model.dtype).removeprefix("torch."),
        "model_type": "nemotron-nas",
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    gone = {
        "attention": ("self_attn.", "input_layernorm."),
        "mlp": ("mlp.", "post_attention_layernorm."),
    }[unit]
    prefixes = tuple(f"model.layers.{layer}.{name}" for layer in layers for name in gone)
    if config["tie_word_embeddings"]:  # the readers expect the embeddings by their own name
        prefixes = (*prefixes, "lm_head.")
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith(prefixes)}
    save_torch_state_dict(weights, folder, metadata={"format": "pt"}, max_shard_size=max_shard_size)
    for module in (configuration_decilm, modeling_decilm):
        shutil.copy(str(module.__file__), folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)


def load_nemotron_nas(folder: Path, **options: Any) -> PreTrainedModel:
    """Load such a checkpoint by the code that lies beside it, in the version of this package."""
    model: PreTrainedModel = modeling_decilm.DeciLMForCausalLM.from_pretrained(folder, **options)
    return model


def _block_config(config: dict[str, Any], absent: Unit | None) -> dict[str, Any]:
    """The entry of a block; the names are those of the published nemotron-nas models."""
    group = config["num_attention_heads"] // config["num_key_value_heads"]
    has_attention, has_mlp = absent != "attention", absent != "mlp"
    width, hidden = config["intermediate_size"], config["hidden_size"]
    mlp: dict[str, Any] = {"no_op": not has_mlp, "replace_with_linear": False}
    if has_mlp and width % FFN_MULTIPLE == 0:
        mlp["ffn_mult"] = 3 * width / (2 * hidden)
    elif has_mlp:
        mlp["intermediate_size"] = width  # read by newer versions of vLLM
    return {
        "attention": {
            "no_op": not has_attention,
            "n_heads_in_group": group if has_attention else None,
            "replace_with_linear": False,
        },
        "ffn": mlp,
    }
