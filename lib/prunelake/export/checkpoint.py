"""Write a pruned checkpoint, all or nothing, after checking that it computes the right logits."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import ExportError, UnsupportedModel, one_line
from prunelake.export.compact_code import add_code, load_by_code
from prunelake.export.fewer_blocks import model_with_fewer_blocks
from prunelake.export.gguf.gguf_file import write_gguf
from prunelake.export.nemotron_nas import load_nemotron_nas, save_nemotron_nas
from prunelake.export.transformers4 import add_older_names
from prunelake.models.compact import save_compact
from prunelake.models.decoder.decoder_probe import cache_argument
from prunelake.models.decoder.text_model import spread_token_ids
from prunelake.models.expert_deletion import smaller_model
from prunelake.models.files.checkpoints import quiet_transformers
from prunelake.models.loading import ModelSource, load_model
from prunelake.models.precision import weight_dtype
from prunelake.models.references import staging_folder
from prunelake.models.removal import removed, zero_out
from prunelake.spec import CheckpointKind, Dtype, GgufQuantisation, Unit

MAX_SHARD_SIZE = "50GB"
PROBE_TOKENS, PREFILL_TOKENS = 12, 5
LOGIT_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 2e-2}
"""The largest deviation of a logit that counts as rounding, as a share of the largest logit."""


def check_output_folder(out: Path) -> None:
    """Check that the export overwrites nothing: `out` is absent or an empty folder.

    Raises:
        ExportError: `out` is a file, a symbolic link, or a folder with content.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ExportError(f"{out} exists already and was not changed; give --out a new folder")


def write_checkpoint(
    source: ModelSource,
    layers: Collection[int],
    kind: CheckpointKind,
    out: Path,
    card: str,
    dtype: Dtype = "float32",
    device: str = "cpu",
    unit: Unit = "attention",
    extra_files: Mapping[str, str] = MappingProxyType({}),
    quantisation: GgufQuantisation | None = None,
    max_shard_size: str = MAX_SHARD_SIZE,
    with_code: bool = False,
) -> int:
    """Write a model without a unit of `layers` to the new folder `out`; return its weight bytes.

    Without experts, or without whole blocks that do not depend on their place, a portable model is
    smaller and has the configuration of a smaller model.

    The checkpoint is written to a folder beside `out`, loaded again, and compared with the pruned
    model, with and without a KV cache; only then is the folder renamed to `out`. A killed process
    leaves the folder `.<out>.<hex>`.

    Args:
        source: the unpruned model.
        layers: the layers that lose their unit, or the experts that go.
        kind: the form of the checkpoint. A GGUF file is not loaded again: its tensors are compared.
        out: a path that does not exist, or an empty folder.
        card: the text of README.md.
        dtype: the number format of the weights.
        device: the device on which the models are compared.
        unit: the unit that is removed from the layers.
        extra_files: the texts of further files, by name.
        quantisation: the number format of the matrices in a GGUF file, if not `dtype`.
        max_shard_size: the largest file of weights, such as `5GB`; GGUF has a single file.
        with_code: whether a compact checkpoint has the code by which transformers loads it.

    Raises:
        ExportError: `out` exists or cannot be written, or the checkpoint computes other logits.
        ModelError: as `load_model`, or as `smaller_model`.
        UnsupportedModel: as `write_gguf`, `save_nemotron_nas` or `add_code`.
    """
    check_output_folder(out)
    loaded = load_model(source, dtype, device)
    if kind is CheckpointKind.gguf:
        with _new_folder(out) as folder:
            _write_texts(folder, {**extra_files, "README.md": card})
            name = f"{out.name} by PruneLake"
            return write_gguf(loaded.model, source.folder, layers, unit, name, quantisation, folder)
    with removed(loaded.model, layers, unit):
        expected = _uncached_logits(loaded.model)
    with _new_folder(out) as folder:
        with quiet_transformers():
            if unit == "expert":
                smaller = smaller_model(loaded.model, layers)
                smaller.save_pretrained(folder, max_shard_size=max_shard_size)
            elif unit == "block" and kind is CheckpointKind.portable:
                _save_without_blocks(loaded.model, layers, folder, max_shard_size)
            elif kind is CheckpointKind.nemotron_nas:
                save_nemotron_nas(loaded.model, layers, unit, folder, max_shard_size)
            elif kind is CheckpointKind.compact:
                save_compact(loaded.model, layers, folder, unit, max_shard_size)
            else:
                zero_out(loaded.model, layers, unit)
                loaded.model.save_pretrained(folder, max_shard_size=max_shard_size)
            loaded.tokenizer.save_pretrained(folder)
            if kind is not CheckpointKind.compact:
                add_older_names(folder, loaded.tokenizer)
            elif with_code:
                add_code(folder, loaded.model, loaded.tokenizer)
        _write_texts(folder, {**extra_files, "README.md": card})
        del loaded  # two models may not fit into memory
        if kind is CheckpointKind.nemotron_nas:
            written = load_nemotron_nas(folder, dtype=weight_dtype(dtype)).eval()
        elif with_code:
            written = load_by_code(folder, weight_dtype(dtype)).eval()
        else:
            written = load_model(replace(source, folder=folder), dtype, device).model
        name = source.architecture
        _check_logits(_uncached_logits(written), expected, f"{name} without a cache")
        # Decoding computes in other shapes. In half precision these round too differently.
        nn.Module.to(written, torch.float32)
        try:
            cached = _cached_logits(written)
        except Exception as error:  # model code raises any type
            raise ExportError(
                f"{name}: the checkpoint does not run with a cache ({type(error).__name__}: "
                f"{one_line(error)}); the checkpoint was not kept"
            ) from error
        if cached is not None:
            _check_logits(cached, _uncached_logits(written), f"{name} with a cache")
        weight_files = [*folder.glob("*.safetensors")]
        for file in weight_files:  # safetensors lets only the owner read them
            file.chmod((folder / "README.md").stat().st_mode)
        return sum(file.stat().st_size for file in weight_files)


def _write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _save_without_blocks(
    model: PreTrainedModel, blocks: Collection[int], folder: Path, max_shard_size: str
) -> None:
    """Save a plain model with fewer blocks; or with zeros, if no configuration describes it."""
    try:
        smaller = model_with_fewer_blocks(model, blocks)
    except UnsupportedModel:
        zero_out(model, blocks, "block")
        smaller = model
    smaller.save_pretrained(folder, max_shard_size=max_shard_size)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that is renamed to `out` after the block, or removed after an error."""
    try:
        with staging_folder(out) as folder:
            yield folder
            check_output_folder(out)
            folder.rename(out)
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"{out} cannot be written ({one_line(error)}); nothing was kept: make room, or "
            "give --out another place"
        ) from error


@torch.inference_mode()
def _uncached_logits(model: PreTrainedModel) -> Tensor:
    ids = spread_token_ids(model, (1, PROBE_TOKENS))
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


@torch.inference_mode()
def _cached_logits(model: PreTrainedModel) -> Tensor | None:
    """Logits of the same tokens with a cache: the first in one pass, the others one by one.

    Positions are given, as `generate` gives them: the cache of a hybrid model may not know them.
    None for a model that hands out no cache.
    """
    cache: dict[str, Any] = {}
    logits = []
    takes_positions = "position_ids" in signature(model.forward).parameters
    steps = [PREFILL_TOKENS, *[1] * (PROBE_TOKENS - PREFILL_TOKENS)]
    positions = torch.arange(PROBE_TOKENS, device=model.device)[None]
    for ids, own in zip(
        torch.split(spread_token_ids(model, (1, PROBE_TOKENS)), steps, dim=1),
        torch.split(positions, steps, dim=1),
        strict=True,
    ):
        given = cache | ({"position_ids": own} if takes_positions else {})
        output = model(input_ids=ids, use_cache=True, **given)
        cache = cache_argument(output)
        if not cache:
            return None
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


def _check_logits(logits: Tensor, expected: Tensor, model_name: str) -> None:
    deviation = float((logits - expected).abs().max())
    tolerance = LOGIT_TOLERANCE[expected.dtype] * float(expected.abs().max())
    if not deviation <= tolerance:  # true for NaN, too
        raise ExportError(
            f"{model_name}: a logit of the checkpoint differs by {deviation:.3g} from the pruned "
            f"model's (rounding explains at most {tolerance:.3g}); the checkpoint was not kept"
        )
