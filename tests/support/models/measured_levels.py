"""Small measurements of levels, and the logits and the cache of a model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from prunelake.profiling.measurement import Workload, measure_levels
from tests.support.models.tiny_models import VOCABULARY

SMALL = Workload(batch=2, prompt_tokens=6, new_tokens=3, repeats=2)


def ids(tokens: int = 12) -> Tensor:
    return torch.randint(3, VOCABULARY, (2, tokens), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    output: Tensor = model(input_ids=tokens, use_cache=False).logits
    return output


@torch.inference_mode()
def decoded(model: PreTrainedModel, tokens: Tensor, first: int = 5) -> tuple[Tensor, DynamicCache]:
    """The logits and the cache of decoding: `first` tokens at once, then one by one."""
    cache, found = None, []
    for part in torch.split(tokens, [first, *[1] * (tokens.shape[1] - first)], dim=1):
        answer = model(input_ids=part, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        found.append(answer.logits)
    assert isinstance(cache, DynamicCache)
    return torch.cat(found, dim=1), cache


def ignore(_: str) -> None:
    pass


def measured(
    model: PreTrainedModel, levels: Sequence[int], workload: Workload = SMALL
) -> list[Any]:
    return measure_levels(model, (3, 0, 1, 4, 2), levels, workload, ignore)
