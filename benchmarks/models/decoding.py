"""Greedy decoding by `generate` against whole passes, for tiny models without some parts.

    python -m benchmarks.models.decoding bamba zamba2 mixtral

For each unit, the first layer with it is removed, then all of them; of the unit expert, one expert
of each block. Each model decodes with and without a cache, alone and in a batch with padding.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.models.tiny_decoders import build_tiny
from prunelake.errors import UnsupportedModel
from prunelake.models.decoder.level_range import level_range
from prunelake.models.removal import detached, removed
from prunelake.spec import UNIT_NAMES, Unit

STEPS = 6
LONG, SHORT = torch.tensor([[5, 6, 7, 8, 9, 10, 11]]), torch.tensor([[20, 21, 22, 23]])

Removal = tuple[str, Unit | None, Sequence[int]]


def main() -> None:
    """Print what differs for each model type."""
    for model_type in sys.argv[1:]:
        found = [text for text in differences(build_tiny(model_type)) if text]
        print(f"{model_type:20} {'; '.join(found) or 'equal'}", flush=True)


@torch.inference_mode()
def differences(model: PreTrainedModel) -> Iterator[str]:
    """What differs without each part."""
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    for name, unit, layers in _removals(model):
        without: AbstractContextManager[Any] = nullcontext()
        absent: AbstractContextManager[Any] = nullcontext()
        if unit is not None:
            without, absent = removed(model, layers, unit), detached(model, layers, unit)
        with without:
            long, short = recomputed(model, LONG), recomputed(model, SHORT)
        try:
            with absent:
                yield from _compared(model, name, long, short)
        except UnsupportedModel:  # blocks that share weights
            continue


def recomputed(model: PreTrainedModel, ids: Tensor, steps: int = STEPS) -> Tensor:
    """The prompt and the most probable tokens behind it, from a whole pass for each."""
    for _ in range(steps):
        logits = model(input_ids=ids, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return ids


def generated(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, use_cache: bool, steps: int = STEPS
) -> Tensor:
    """The prompts and the tokens that `generate` puts behind them."""
    found: Tensor = model.generate(  # type: ignore[operator]  # its type is a union
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=steps,
        do_sample=False,
        use_cache=use_cache,
        pad_token_id=0,
    )
    return found


def padded_batch(long: Tensor, short: Tensor) -> tuple[Tensor, Tensor]:
    """Both prompts in a batch, the short one behind padding, and its mask."""
    padding = torch.zeros_like(long[:, short.shape[1] :])
    ids = torch.cat([long, torch.cat([padding, short], dim=1)])
    mask = torch.ones_like(ids)
    mask[1, : padding.shape[1]] = 0
    return ids, mask


def _removals(model: PreTrainedModel) -> Iterator[Removal]:
    yield "whole", None, ()
    for unit in UNIT_NAMES:
        try:
            known = level_range(model, unit)
        except UnsupportedModel:
            continue
        if unit == "expert":
            yield "an expert of each block", unit, range(0, known.part_count, known.layer_count)
            continue
        yield f"first {unit}", unit, [0]
        yield f"all {unit}", unit, range(known.layer_count)


def _compared(model: PreTrainedModel, name: str, long: Tensor, short: Tensor) -> Iterator[str]:
    ids, mask = padded_batch(LONG, SHORT)
    gap = LONG.shape[1] - SHORT.shape[1]
    for use_cache in (False, True):
        how = f"{name}, {'with' if use_cache else 'without'} a cache"
        try:
            alone = generated(model, LONG, torch.ones_like(LONG), use_cache)
            if not torch.equal(alone, long):
                yield how
            batch = generated(model, ids, mask, use_cache)
            if not (torch.equal(batch[:1], long) and torch.equal(batch[1:, gap:], short)):
                yield f"{how}, padded"
        except Exception as error:  # model code raises any type
            yield f"{how}: {type(error).__name__}"


if __name__ == "__main__":
    main()
