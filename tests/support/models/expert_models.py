"""Mixtures of experts and, as the oracle of a removal, mixtures that never had some experts."""

import copy
from collections.abc import Collection

import torch
from transformers import PreTrainedModel

from benchmarks.models.tiny_decoders import BLOCKS

EXPERTS, CHOSEN = 4, 2
"""The experts of each block of `build_tiny`, and those that its router chooses for a token."""

COUNT_FIELDS = {
    "deepseek_v2": "n_routed_experts",
    "mixtral": "num_local_experts",
    "olmoe": "num_experts",
    "qwen3_moe": "num_experts",
}
"""Model types, and the field of their configuration that counts experts."""


def smaller_mixture(
    model: PreTrainedModel, model_type: str, kept: Collection[Collection[int]]
) -> PreTrainedModel:
    """A model that has only the `kept` experts of each block, built from a smaller configuration.

    Its weights are copied by name: `mlp.gate` and `mlp.experts` of a block have one row for each
    expert.
    """
    config = copy.deepcopy(model.config)
    setattr(config, COUNT_FIELDS[model_type], len(next(iter(kept))))
    smaller: PreTrainedModel = type(model)(config).eval()
    weights = {}
    for name, weight in model.state_dict().items():
        _, found, rest = name.partition("layers.")
        number, _, own = rest.partition(".")
        is_expert_weight = found and own.startswith(("mlp.gate.", "mlp.experts."))
        weights[name] = weight[[*kept][int(number)]] if is_expert_weight else weight
    smaller.load_state_dict(weights, strict=True)
    return smaller


def numbers_of(removed: Collection[Collection[int]]) -> list[int]:
    """The numbers of the experts that each block lacks, counted over all blocks."""
    return [block * EXPERTS + expert for block, own in enumerate(removed) for expert in own]


def kept_experts(removed: Collection[Collection[int]]) -> list[list[int]]:
    """The experts that each block keeps."""
    return [[expert for expert in range(EXPERTS) if expert not in own] for own in removed]


def logits(model: PreTrainedModel) -> torch.Tensor:
    """The logits of two rows of tokens."""
    with torch.inference_mode():
        found: torch.Tensor = model(
            input_ids=torch.arange(3, 25).view(2, 11), use_cache=False
        ).logits
    return found


ONE_EACH = [[block % EXPERTS] for block in range(BLOCKS)]
TWO_EACH = [[block % EXPERTS, (block + 2) % EXPERTS] for block in range(BLOCKS)]
