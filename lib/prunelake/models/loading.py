"""Load a model and its tokenizer, and check that its rows do not depend on each other."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from prunelake.errors import ModelError, ModelNotFound, UnsupportedModel, one_line
from prunelake.models.decoder.decoder_probe import probe_decoder
from prunelake.models.decoder.level_range import level_range
from prunelake.models.decoder.text_model import spread_token_ids
from prunelake.models.files.checkpoints import (
    is_compact,
    load_compact,
    load_complete_model,
    quiet_transformers,
    read_config,
    skeleton,
)
from prunelake.models.gpu.device_names import ALL_GPUS
from prunelake.models.gpu.devices import check_device
from prunelake.models.gpu.memory import is_out_of_memory
from prunelake.models.gpu.placement import gpu_device_map
from prunelake.models.precision import keep_freed_memory, set_matmul_precision, weight_dtype
from prunelake.spec import Dtype, Unit

ROW_TOLERANCE = 2e-2
"""The largest deviation that counts as rounding, as a share of the largest logit: a kernel for one
row may round differently from a kernel for several rows."""


@dataclass(frozen=True)
class ModelSource:
    """The weights of a model: their place and their identity.

    - `reference`: the model reference, as the user gave it.
    - `revision`: the hub commit, or `sha256:` and the hash of the model's files.
    - `folder`: holds the model in the layout of transformers.
    - `architecture`: the name of the model's class in transformers.
    - `layer_count`: the number of its layers with the unit, or of experts in each block.
    - `quantisation`: how its weights are quantised, such as `gptq-int4`; empty if they are not.
    - `remote_code`: the hash of the model's own code, which runs; empty if none runs.
    - `deepest_level`: the deepest level; None if all layers can be removed.
    """

    reference: str
    revision: str
    folder: Path
    architecture: str
    layer_count: int
    quantisation: str = ""
    remote_code: str = ""
    deepest_level: int | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready for inference, its tokenizer and its source."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource


def load_model(source: ModelSource, dtype: Dtype = "float32", device: str = "cpu") -> LoadedModel:
    """Load a model for inference: without dropout and without gradients of its weights.

        loaded = load_model(resolve_model("hub:HuggingFaceTB/SmolLM2-135M", Path("cache")))

    A model from a compact checkpoint (`compact.save_compact`) lacks the same modules.

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
                model = load_compact(source.folder, **options)
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
        problem = "their shapes differ from config.json" if is_other_shape else one_line(error)
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
        ModelNotFound: as `read_tokenizer`.
    """
    return read_tokenizer(source.folder, source.reference, bool(source.remote_code))


def read_tokenizer(
    folder: Path, reference: str, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    """The tokenizer in the folder of a model.

    Raises:
        ModelNotFound: no tokenizer beside the weights, or one that cannot be read.
    """
    try:  # a file that changes gives another tokenizer
        files = sorted(folder.iterdir())
        state = tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    except OSError:
        state = ()
    return _read_unchanged_tokenizer(folder, reference, trust_remote_code, state)


@lru_cache(maxsize=1)  # checking, planning and loading a model ask for it, and it takes 0.1 s
def _read_unchanged_tokenizer(
    folder: Path,
    reference: str,
    trust_remote_code: bool,
    state: tuple[tuple[str, int, int], ...],  # noqa: ARG001  # a key
) -> PreTrainedTokenizerBase:
    problem = "it knows no word"
    try:
        with quiet_transformers():
            # transformers alone refuses to read the configuration of a compact checkpoint.
            config = read_config(folder) if is_compact(folder) else None
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, config=config, trust_remote_code=trust_remote_code
            )
        # Without its files, transformers makes a tokenizer of some models that knows no word.
        if tokenizer.encode("Earth") != tokenizer.encode("water"):
            return tokenizer
    except Exception as error:  # transformers and tokenizers raise many types on a bad file
        problem = one_line(error)
    raise ModelNotFound(
        f"model {reference}: {folder} has no tokenizer that works ({problem}); copy "
        "tokenizer.json and tokenizer_config.json there from the original model"
    )


def check_supported(model: PreTrainedModel, unit: Unit = "attention") -> None:
    """Check on a few tokens that a model computes with the parts that `decoder_map` found.

    Raises:
        UnsupportedModel: no such unit; or a part is not called once in each pass, in order; or the
            logits are not made from the last hidden states.
    """
    level_range(model, unit)
    probe_decoder(model, again=True)
