"""Tiny random models of every supported family: five blocks, a vocabulary of 97."""

from collections.abc import Callable, Collection
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)
from transformers.models.auto import AutoModelForCausalLM

from prunelake.spec import Unit
from tests.support.endurance import IS_ENDURANCE

Case = tuple[Any, ...]

VOCABULARY = 97
LAYER_COUNT = 5
CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYER_COUNT,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # Wide enough that each layer moves the logits by much more than rounding errors.
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
GROUPED_QUERY_CONFIG = {**CONFIG, "num_key_value_heads": 2}
HEAD_DIM_CONFIG = {**GROUPED_QUERY_CONFIG, "head_dim": 8}

OUTPUT_PROJECTIONS = ("self_attn.o_proj", "attention.dense", "mlp.down_proj", "mlp.dense_4h_to_h")

FAMILIES: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: LlamaConfig(**GROUPED_QUERY_CONFIG),
    "mistral": lambda: MistralConfig(**GROUPED_QUERY_CONFIG, sliding_window=64),
    "qwen2": lambda: Qwen2Config(**GROUPED_QUERY_CONFIG),
    "qwen3": lambda: Qwen3Config(**HEAD_DIM_CONFIG),
    "gemma2": lambda: Gemma2Config(**HEAD_DIM_CONFIG, sliding_window=64, query_pre_attn_scalar=8),
    "gemma3": lambda: Gemma3TextConfig(
        **HEAD_DIM_CONFIG, sliding_window=64, query_pre_attn_scalar=8
    ),
    "phi3": lambda: Phi3Config(**GROUPED_QUERY_CONFIG),
    "olmo2": lambda: Olmo2Config(**GROUPED_QUERY_CONFIG),
    "gpt_neox": lambda: GPTNeoXConfig(**CONFIG, use_parallel_residual=True),
}


UNITS: tuple[Unit, ...] = ("attention", "mlp", "block")
"""The units that each of these families has."""

REPRESENTATIVES = ("llama", "gemma3", "gpt_neox")
"""Plain blocks; windows and norms after each part; attention and MLP in parallel."""

SHORT_FAMILIES: Collection[str] = FAMILIES if IS_ENDURANCE else REPRESENTATIVES


def family_cases(*cases: Case) -> list[tuple[Any, ...]]:
    """Each family with each case; in the short form each family and each case, in turn."""
    if IS_ENDURANCE:
        return [(family, *case) for family in FAMILIES for case in cases]
    families = len(REPRESENTATIVES)
    return [
        (REPRESENTATIVES[(n + n // families) % families], *cases[n % len(cases)])
        for n in range(max(families, len(cases)))
    ]


def zero_projections(model: PreTrainedModel, layers: Collection[int], unit: Unit) -> None:
    """The oracle of a removal: zero what ends the attention, the MLP, or both, by its name."""
    ends = {
        "attention": OUTPUT_PROJECTIONS[:2],
        "mlp": OUTPUT_PROJECTIONS[2:],
        "block": OUTPUT_PROJECTIONS,
    }[unit]
    for name, parameter in model.named_parameters():
        _, found, rest = name.partition("layers.")
        number, _, own = rest.partition(".")
        if found and int(number) in layers and own.rpartition(".")[0] in ends:
            parameter.data.zero_()


def tiny_model(family: str, **changes: Any) -> PreTrainedModel:
    """A model of a family with seeded random weights and, where it has them, random biases."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    for name, value in changes.items():
        setattr(config, name, value)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval().requires_grad_(False)
    return model
