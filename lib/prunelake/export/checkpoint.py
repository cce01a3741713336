"""Write a pruned checkpoint, all or nothing, and only if it answers as the pruned model does."""

import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from prunelake.errors import ExportError, one_line
from prunelake.export.model_card import CheckpointKind
from prunelake.models.loading import ModelSource, load_model, quiet_transformers, text_config
from prunelake.models.removal import removed, save_compact, zero_out
from prunelake.spec import Dtype, Unit

PROBE_TOKENS, PREFILL_TOKENS = 12, 5
LOGIT_TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 2e-2}
"""Largest deviation of a logit, as a share of the largest one, that is rounding."""


def check_output_folder(out: Path) -> None:
    """Raise unless `out` is free: not there, or an empty folder.

    Raises:
        ExportError: something is there.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ExportError(f"{out} is there already, and stays as it is; give --out a new folder")


def write_checkpoint(
    source: ModelSource,
    layers: Collection[int],
    kind: CheckpointKind,
    out: Path,
    card: str,
    dtype: Dtype = "float32",
    device: str = "cpu",
    unit: Unit = "attention",
    beside: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write a model without a unit of `layers` to a new folder; the bytes of its weights.

    It is written beside `out`, loaded again, compared with the pruned model, also in decoding with
    a cache, and then renamed. What is left of a process that was killed is named `.<out>.<hex>`.
    `beside` has more text files, by name.

    Raises:
        ExportError: `out` is taken or cannot be written, or the checkpoint answers otherwise.
        ModelError: as `loading.load_model`.
    """
    check_output_folder(out)
    loaded = load_model(source, dtype, device)
    with removed(loaded.model, layers, unit):
        expected = _uncached_logits(loaded.model)
    with _atomic_folder(out) as partial:
        with quiet_transformers():
            if kind is CheckpointKind.compact:
                save_compact(loaded.model, layers, partial, unit)
            else:
                zero_out(loaded.model, layers, unit)
                loaded.model.save_pretrained(partial)
            loaded.tokenizer.save_pretrained(partial)
        for name, text in {**beside, "README.md": card}.items():
            (partial / name).write_text(text, encoding="utf-8")
        del loaded  # before it comes again: two may not fit
        again = load_model(replace(source, folder=partial), dtype, device).model
        _check_logits(_uncached_logits(again), expected, f"{source.architecture} without a cache")
        # Decoding computes in other shapes, which half precision rounds too differently.
        nn.Module.to(again, torch.float32)
        _check_logits(
            _cached_logits(again), _uncached_logits(again), f"{source.architecture} with a cache"
        )
        weights = [*partial.glob("*.safetensors")]
        for file in weights:  # which safetensors lets nobody else read
            file.chmod((partial / "README.md").stat().st_mode)
        return sum(file.stat().st_size for file in weights)


@contextmanager
def _atomic_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out`: renamed to it after the block, gone after an error."""
    partial = out.absolute().parent / f".{out.name}.{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        yield partial
        check_output_folder(out)
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"{out} cannot be written ({one_line(error)}); nothing of it was kept: make room, or "
            "give --out another place"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _probe_ids(model: PreTrainedModel) -> Tensor:
    """Tokens [1, PROBE_TOKENS] from all over the vocabulary."""
    spread = torch.arange(1, PROBE_TOKENS + 1, device=model.device) * 7919
    vocabulary: int = text_config(model).vocab_size
    return spread[None] % vocabulary


@torch.inference_mode()
def _uncached_logits(model: PreTrainedModel) -> Tensor:
    logits: Tensor = model(input_ids=_probe_ids(model), use_cache=False).logits
    return logits


@torch.inference_mode()
def _cached_logits(model: PreTrainedModel) -> Tensor:
    """The logits of `_uncached_logits`, the last tokens one by one."""
    cache, parts = None, []
    for part in torch.split(
        _probe_ids(model), [PREFILL_TOKENS, *[1] * (PROBE_TOKENS - PREFILL_TOKENS)], dim=1
    ):
        answer = model(input_ids=part, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        parts.append(answer.logits)
    return torch.cat(parts, dim=1)


def _check_logits(found: Tensor, expected: Tensor, what: str) -> None:
    deviation = float((found - expected).abs().max())
    tolerance = LOGIT_TOLERANCE[expected.dtype] * float(expected.abs().max())
    if not deviation <= tolerance:  # also where it is no number
        raise ExportError(
            f"{what}: a logit of the checkpoint is {deviation:.3g} off the pruned model's (at most "
            f"{tolerance:.3g} is rounding); it was not kept"
        )
