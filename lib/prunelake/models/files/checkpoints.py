"""Read the configuration and the weights of a checkpoint, also of a compact one."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from prunelake.errors import ModelNotFound, UnsupportedModel
from prunelake.models.decoder.modeling_prunelake import AbsentPart
from prunelake.models.decoder.placeholders import replace_with_placeholders
from prunelake.models.model_class import auto_class, model_class, model_from_config

COMPACT_MODEL_TYPE = "prunelake_compact"
"""The beginning of the model type in config.json of a compact checkpoint. transformers does not
know this type; for a type that it knows it would fill in random weights for the absent modules."""

REFUSED_CONFIGURATION_FILE = (
    "config.(this is a compact checkpoint of PruneLake, and transformers cannot load it without "
    "PruneLake; load it with prunelake.models.loading.load_model, or export it again with "
    "--with-code or --kind portable).json"
)
"""A name among `configuration_files` in config.json, where transformers looks for the file of its
version. It quotes this text as an invalid version, and reads nothing. An unknown model type alone
would let it advise an upgrade."""


def read_config(folder: Path, trust_remote_code: bool = False) -> PretrainedConfig:
    """The configuration of a model; of the unpruned model for a compact checkpoint.

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
            replace_with_placeholders(model, *_absent_modules(marker))
    return model


def is_compact(folder: Path) -> bool:
    """Whether a folder holds a compact checkpoint."""
    return _compact_marker(folder) is not None


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


def load_compact(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a compact checkpoint, without allocating memory for the absent modules."""
    marker = _compact_marker(folder)
    assert marker is not None
    found, config = model_class(read_config(folder))
    complete_class: Any = found  # mypy takes no variable as a base class

    def initialise(self: Any, config: PretrainedConfig) -> None:
        complete_class.__init__(self, config)
        replace_with_placeholders(self, *_absent_modules(marker))

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


def _absent_modules(marker: dict[str, Any]) -> tuple[list[AbsentPart], list[int]]:
    """The parts that a compact checkpoint lacks, and the blocks that lack their norms."""
    return [AbsentPart(**part) for part in marker["absent_parts"]], marker["absent_norms"]


def _check_no_missing_weights(
    folder: Path, model: PreTrainedModel, report: dict[str, Any]
) -> PreTrainedModel:
    if missing := sorted(report["missing_keys"]):
        raise ModelNotFound(f"model {folder} lacks {len(missing)} weights, first {missing[0]}")
    return model


def _refuse_to_save(*_: Any, **__: Any) -> None:
    raise UnsupportedModel(
        "transformers would save this model so that it loads with random weights in place of the "
        "absent ones; save it with prunelake.models.compact.save_compact"
    )


def _compact_marker(folder: Path) -> dict[str, Any] | None:
    """The content of config.json of a compact checkpoint; None for another model."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # loading the configuration reports it
        return None
    is_object = isinstance(config, dict)
    is_compact_config = is_object and str(config.get("model_type")).startswith(COMPACT_MODEL_TYPE)
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
