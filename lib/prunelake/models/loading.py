"""Load a model and its tokenizer, also from a compact checkpoint, and compute its logits."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
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
from prunelake.models.decoder_map import decoder_blocks, removable_parts
from prunelake.models.decoder_probe import probe_decoder
from prunelake.models.device_names import ALL_GPUS
from prunelake.models.devices import check_device
from prunelake.models.memory import is_out_of_memory
from prunelake.models.model_class import auto_class, model_class, model_from_config
from prunelake.models.placeholders import AbsentPart, replace_with_placeholders
from prunelake.models.placement import gpu_device_map
from prunelake.models.precision import keep_freed_memory, set_matmul_precision, weight_dtype
from prunelake.spec import Dtype, Unit

COMPACT_MODEL_TYPE = "prunelake_compact"
"""The model type in config.json of a compact checkpoint. transformers does not know this type; for
a type that it knows it would fill in random weights for the absent modules."""


ROW_TOLERANCE = 2e-2
"""The largest deviation that counts as rounding, as a share of the largest logit: a kernel for one
row may round otherwise than a kernel for more."""

NO_LIMIT = 2**31
"""The context length of a model that works at any length, such as a recurrent one."""


@dataclass(frozen=True)
class ModelSource:
    """The weights of a model: where they lie and which weights they are.

    - `reference`: the model reference, as the user gave it.
    - `revision`: the hub commit, or `sha256:` and the hash of the model's files.
    - `folder`: holds the model in the layout of transformers.
    - `architecture`: the name of the model's class in transformers.
    - `layer_count`: the number of its attention layers.
    - `quantisation`: how its weights are quantised, such as `gptq-int4`; empty if they are not.
    - `remote_code`: the hash of the model's own code, which runs; empty if none runs.
    """

    reference: str
    revision: str
    folder: Path
    architecture: str
    layer_count: int
    quantisation: str = ""
    remote_code: str = ""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready for inference, its tokenizer and its source."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource


def load_model(source: ModelSource, dtype: Dtype = "float32", device: str = "cpu") -> LoadedModel:
    """Load a model for inference: without dropout and without gradients of its weights.

        loaded = load_model(resolve_model("hub:HuggingFaceTB/SmolLM2-135M", Path("cache")))

    A model from a compact checkpoint (`removal.save_compact`) lacks the same modules.

    Raises:
        ModelError: no such device, a device that cannot compute in this number format, or weights
            that do not fit into its memory.
        ModelNotFound: no tokenizer, or weights that are missing or cannot be read.
        UnsupportedModel: a model whose attention layers cannot be removed, or whose quantised
            weights make rows depend on each other.
    """
    check_device(device)
    tokenizer = load_tokenizer(source)
    options: dict[str, Any] = {"dtype": weight_dtype(dtype)}
    try:
        if source.quantisation and device.startswith("cuda"):  # accelerate knows the true sizes
            options["device_map"] = "auto" if device == ALL_GPUS else {"": device}
        elif device.startswith("cuda"):  # each weight goes to its GPU at once
            empty = skeleton(source.folder, weight_dtype(dtype), bool(source.remote_code))
            options["device_map"] = gpu_device_map(empty, device, source.reference)
        with quiet_transformers():
            if is_compact(source.folder):
                model = _load_compact(source.folder, **options)
            else:
                trust = bool(source.remote_code)
                model = load_complete_model(source.folder, trust_remote_code=trust, **options)
        if device == "mps":
            nn.Module.to(model, torch.device(device))  # the model's own `to` has no types
    except (SafetensorError, OSError, RuntimeError, ValueError, KeyError, ImportError) as error:
        if is_out_of_memory(error):
            raise ModelError(
                f"model {source.reference} does not fit into the memory of {device} "
                f"({one_line(error)}); take a smaller dtype or PRUNELAKE_DEVICE=cuda:all"
            ) from error
        if source.quantisation:
            raise ModelError(
                f"model {source.reference}: transformers {version('transformers')} cannot load "
                f"{source.quantisation} weights on {device} ({one_line(error)})"
            ) from error
        is_other_shape = "ignore_mismatched_sizes" in str(error)
        problem = "their shapes are not those of config.json" if is_other_shape else one_line(error)
        raise ModelNotFound(
            f"model {source.reference}: its weights cannot be read ({problem}); "
            f"fetch {source.folder} again"
        ) from error
    model.eval().requires_grad_(False)
    if source.quantisation:
        _check_rows(model, source)
    set_matmul_precision(model, dtype)
    keep_freed_memory()
    probe_decoder(model)
    return LoadedModel(model, tokenizer, source)


@torch.no_grad()
def _check_rows(model: PreTrainedModel, source: ModelSource) -> None:
    """Check that a row of a quantised model has the same logits alone and beside another row.

    Some methods unpack their weights in the first pass. This pass is not under `inference_mode`,
    which would make them tensors that no gradient can pass.

    Raises:
        UnsupportedModel: the rows depend on each other.
    """
    ids = spread_token_ids(model, (2, 8))
    alone = model(input_ids=ids[:1], use_cache=False).logits.float()
    beside = model(input_ids=ids, use_cache=False).logits[:1].float()
    deviation = float((alone - beside).abs().max())
    if not deviation <= ROW_TOLERANCE * float(alone.abs().max()):
        raise UnsupportedModel(
            f"model {source.reference} ({source.quantisation}): the numbers of a row depend on the "
            f"other rows of its batch (a logit changes by {deviation:.3g}), so levels cannot share "
            "a pass; take weights that are quantised without scales or outliers of a whole batch"
        )


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        ModelNotFound: no tokenizer beside the weights, or one that cannot be read.
    """
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                source.folder, trust_remote_code=bool(source.remote_code)
            )
    except Exception as error:  # transformers and tokenizers raise many types on a bad file
        raise _no_tokenizer(source, one_line(error)) from error
    # Without its files, transformers makes a tokenizer of some models that knows no word.
    if tokenizer.encode("Earth") == tokenizer.encode("water"):
        raise _no_tokenizer(source, "it knows no word")
    return tokenizer


def _no_tokenizer(source: ModelSource, problem: str) -> ModelNotFound:
    return ModelNotFound(
        f"model {source.reference}: {source.folder} has no tokenizer that works ({problem}); copy "
        "tokenizer.json and tokenizer_config.json there from the original model"
    )


def read_config(folder: Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """The configuration of a model; for a compact checkpoint, that of the unpruned model.

    With `trust_remote_code`, the model's own code may run (`remote_code.check_remote_code`).

    Raises:
        OSError, ValueError, KeyError: config.json cannot be read, or describes no model.
    """
    config: PretrainedConfig
    if marker := _compact_marker(folder):
        unpruned = marker["config"]
        config = CONFIG_MAPPING[unpruned["model_type"]].from_dict(unpruned)
    else:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    return config


def skeleton(folder: Path, dtype: torch.dtype, trust_remote_code: bool = False) -> PreTrainedModel:
    """The modules of a model without weights, on torch's meta device; they take no memory.

    Raises:
        OSError, ValueError, KeyError: as `read_config`; or transformers has no model for it.
    """
    with quiet_transformers(), torch.device("meta"):
        config = read_config(folder, trust_remote_code)
        model = model_from_config(config, trust_remote_code, dtype=dtype)
        if marker := _compact_marker(folder):
            replace_with_placeholders(model, *_absent_modules(model, marker))
    return model


def is_compact(folder: Path) -> bool:
    """Whether a folder holds a compact checkpoint."""
    return _compact_marker(folder) is not None


def text_config(model: PreTrainedModel) -> PretrainedConfig:
    """The configuration of the language model, also within a multimodal model."""
    config: PretrainedConfig = model.config.get_text_config()
    return config


def context_length(config: PretrainedConfig) -> int:
    """The most tokens of a sequence; NO_LIMIT if the configuration names none."""
    length: int | None = getattr(config, "max_position_embeddings", None)
    return length or NO_LIMIT


def spread_token_ids(model: PreTrainedModel, shape: tuple[int, int]) -> Tensor:
    """Token ids [rows, tokens] of the given shape, spread over the whole vocabulary."""
    count = shape[0] * shape[1]
    vocabulary_size: int = text_config(model).vocab_size
    return (torch.arange(1, count + 1, device=model.device) * 7919 % vocabulary_size).view(shape)


def check_supported(model: PreTrainedModel, unit: Unit = "attention") -> None:
    """Check on a few tokens that a model computes with the parts that `decoder_map` found.

    Raises:
        UnsupportedModel: no such unit; or a part is not called once in each pass, in order; or the
            logits are not made from the last hidden states.
    """
    removable_parts(model, unit)
    probe_decoder(model, again=True)


def load_complete_model(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a model by transformers, which would fill in random weights for missing ones.

    Raises:
        ModelNotFound: the files lack some of the weights.
    """
    trust = bool(options.get("trust_remote_code"))
    is_gguf = "gguf_file" in options
    auto: Any = AutoModelForCausalLM if is_gguf else auto_class(read_config(folder, trust), trust)
    return _check_no_missing_weights(
        folder, *auto.from_pretrained(folder, output_loading_info=True, **options)
    )


def _load_compact(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a compact checkpoint, without allocating memory for the absent modules."""
    marker = _compact_marker(folder)
    assert marker is not None
    found, config = model_class(read_config(folder))
    complete_class: Any = found  # mypy takes no variable as a base class

    def initialise(self: Any, config: PretrainedConfig) -> None:
        complete_class.__init__(self, config)
        replace_with_placeholders(self, *_absent_modules(self, marker))

    members = {
        "__init__": initialise,
        "__module__": complete_class.__module__,
        "save_pretrained": _refuse_to_save,
    }
    compact_class: Any = type(complete_class.__name__, (complete_class,), members)
    weights: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    loaded = compact_class.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, **options
    )
    model = _check_no_missing_weights(folder, *loaded)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model


def _absent_modules(
    model: PreTrainedModel, marker: dict[str, Any]
) -> tuple[list[AbsentPart], list[int]]:
    """The parts that a compact checkpoint lacks, and the blocks that lack their norms.

    Earlier versions named only blocks, of models whose blocks have one attention and one MLP.
    """
    if "absent_parts" in marker:
        return [AbsentPart(**part) for part in marker["absent_parts"]], marker["absent_norms"]
    gone = {"attention": marker["absent_attention"], "mlp": marker["absent_mlp"]}
    parts = [
        AbsentPart(block.index, part.name, part.kind, 1 if part.kind == "attention" else None)
        for block in decoder_blocks(model)
        for part in block.parts
        if block.index in gone.get(part.kind, ())
    ]
    return parts, sorted({*gone["attention"]} & {*gone["mlp"]})


def _check_no_missing_weights(
    folder: Path, model: PreTrainedModel, report: dict[str, Any]
) -> PreTrainedModel:
    if missing := sorted(report["missing_keys"]):
        raise ModelNotFound(f"model {folder} lacks {len(missing)} weights, first {missing[0]}")
    return model


def _refuse_to_save(*_: Any, **__: Any) -> None:
    raise UnsupportedModel(
        "transformers would save this model so that it loads with random weights in place of the "
        "absent ones; save it with prunelake.models.removal.save_compact"
    )


def _compact_marker(folder: Path) -> dict[str, Any] | None:
    """The content of config.json of a compact checkpoint; None for another model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the configuration reports it
        return None
    is_compact_config = isinstance(config, dict) and config.get("model_type") == COMPACT_MODEL_TYPE
    return config if is_compact_config else None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the progress bars and notices of transformers while a model loads."""
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
