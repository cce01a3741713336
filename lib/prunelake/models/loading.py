"""Load a model, also one that lacks some of its parts, and read its logits off."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from prunelake.errors import ModelError, ModelNotFound, UnsupportedModel, one_line
from prunelake.models.decoder_map import removable_modules, unsupported_model_error
from prunelake.models.placeholders import replace_with_placeholders
from prunelake.models.precision import keep_freed_memory, set_matmul_precision, weight_dtype
from prunelake.spec import Dtype, Unit

COMPACT_MODEL_TYPE = "prunelake_compact"
"""The model type in config.json of a checkpoint that lacks parts of its blocks. transformers knows
no such type; under any of its own it would make up random weights for what is missing."""


@dataclass(frozen=True)
class ModelSource:
    """Where the weights of a model lie, and which weights they are.

    `revision` is the hub commit, or `sha256:` and the hash of the model's files. `folder` holds
    the model in the layout of transformers.
    """

    reference: str
    revision: str
    folder: Path
    architecture: str
    layer_count: int


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for inference, its tokenizer and its source."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource


def load_model(source: ModelSource, dtype: Dtype = "float32", device: str = "cpu") -> LoadedModel:
    """Load a model for inference: no dropout, no gradients for its weights.

    What a compact checkpoint lacks (`removal.save_compact`) is absent from the model, too.

    Raises:
        ModelError: no such device, or one that does not compute in this number format.
        ModelNotFound: its files hold no tokenizer, cannot be read or lack some of its weights.
        UnsupportedModel: its attention layers cannot be removed (see `attention_layers`).
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # no such device, or torch built without it
        raise ModelError(
            f"device {device!r} cannot be used ({one_line(error)}); set PRUNELAKE_DEVICE to auto, "
            "cpu, cuda or cuda:1"
        ) from error
    tokenizer = load_tokenizer(source)
    try:
        with quiet_transformers():
            read = _load_compact if is_compact(source.folder) else load_complete_model
            model = read(source.folder, dtype=weight_dtype(dtype))
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ModelNotFound(
            f"model {source.reference}: its weights cannot be read ({one_line(error)}); "
            f"fetch {source.folder} again"
        ) from error
    nn.Module.to(model, torch.device(device))  # the model's own `to` has lost its types
    model.eval().requires_grad_(False)
    set_matmul_precision(model, dtype)
    keep_freed_memory()
    check_supported(model)
    return LoadedModel(model, tokenizer, source)


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        ModelNotFound: there is none beside the weights.
    """
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source.folder)
    except Exception as error:  # transformers and tokenizers raise many types on a bad file
        raise ModelNotFound(
            f"model {source.reference}: no tokenizer in {source.folder} ({one_line(error)})"
        ) from error
    return tokenizer


def read_config(folder: Path) -> PretrainedConfig:
    """The configuration of a model; of a compact one that of the whole model.

    Raises:
        OSError, ValueError: config.json cannot be read, or means no model.
    """
    config: PretrainedConfig
    if marker := _compact_marker(folder):
        own = marker["config"]
        config = CONFIG_MAPPING[own["model_type"]].from_dict(own)
    else:
        config = AutoConfig.from_pretrained(folder)
    return config


def is_compact(folder: Path) -> bool:
    """Whether a saved model lacks parts of its blocks."""
    return _compact_marker(folder) is not None


def apply_lm_head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits [..., vocabulary] from the base model's last hidden states [..., width].

    In the model's own precision, which is enough to hold them, but not to add them up.
    """
    logits: Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(text_config(model), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def text_config(model: PreTrainedModel) -> PretrainedConfig:
    """The configuration of the language model, also inside a multimodal one."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


@torch.inference_mode()
def check_supported(model: PreTrainedModel, unit: Unit = "attention") -> None:
    """Check on four tokens that the parts found are the parts that the model computes with.

    Raises:
        UnsupportedModel: a part is not called once a pass, or the logits are made otherwise.
    """
    found = [part for own in removable_modules(model, unit) for part in own]
    calls: list[int] = []
    hooks = [
        part.module.register_forward_hook(lambda *_, n=n: calls.append(n))
        for n, part in enumerate(found)
    ]
    ids = torch.arange(4, device=model.device)[None] % text_config(model).vocab_size
    try:
        logits = model(input_ids=ids, use_cache=False).logits.float()
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    if calls != [*range(len(found))] * 2:
        what = "attention" if unit == "attention" else "attention and MLP"
        raise unsupported_model_error(model, f"its blocks do not call their {what} once, in order")
    if not torch.allclose(apply_lm_head(model, hidden).float(), logits, atol=1e-3, rtol=1e-3):
        raise unsupported_model_error(
            model, "its logits are not its output embedding of its last states"
        )


def load_complete_model(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a model whose files hold all of its weights: transformers makes up those they lack."""
    auto: Any = AutoModelForCausalLM
    return _check_no_missing_weights(
        folder, *auto.from_pretrained(folder, output_loading_info=True, **options)
    )


def _load_compact(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a compact checkpoint; nothing is ever allocated for what it lacks."""
    marker = _compact_marker(folder)
    assert marker is not None
    config = read_config(folder)
    plain: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]

    def build(self: Any, config: PretrainedConfig) -> None:
        plain.__init__(self, config)
        replace_with_placeholders(self, marker["absent_attention"], marker["absent_mlp"])

    own = {"__init__": build, "__module__": plain.__module__, "save_pretrained": _refuse_to_save}
    kind: Any = type(plain.__name__, (plain,), own)
    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    loaded = kind.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, **options
    )
    model = _check_no_missing_weights(folder, *loaded)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _check_no_missing_weights(
    folder: Path, model: PreTrainedModel, report: dict[str, Any]
) -> PreTrainedModel:
    if missing := sorted(report["missing_keys"]):
        raise ModelNotFound(f"model {folder} lacks {len(missing)} weights, first {missing[0]}")
    return model


def _refuse_to_save(*_: Any, **__: Any) -> None:
    raise UnsupportedModel(
        "transformers would save this model so that it loads with random weights in place of "
        "those that it lacks; write it with prunelake.models.removal.save_compact"
    )


def _compact_marker(folder: Path) -> dict[str, Any] | None:
    """What config.json of a compact checkpoint says; None for another model."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # told by who reads it in earnest
        return None
    is_ours = isinstance(found, dict) and found.get("model_type") == COMPACT_MODEL_TYPE
    return found if is_ours else None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and notices of transformers while a model loads."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
