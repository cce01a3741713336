"""A Llama whose blocks may lack their attention or their MLP, for transformers 4 and 5."""

from typing import Any

import torch
from torch import nn
from transformers import LlamaForCausalLM

from .configuration_decilm import DeciLMConfig


class AbsentAttention(nn.Module):
    """Adds nothing, and stores nothing in the cache."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        """Zeros of the shape of the hidden states, and no attention weights."""
        return torch.zeros_like(hidden_states), None


class AbsentMlp(nn.Module):
    """Adds nothing."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Zeros of the shape of the hidden states."""
        return torch.zeros_like(hidden_states)


class DeciLMForCausalLM(LlamaForCausalLM):
    """A Llama without the parts that its configuration marks as `no_op`."""

    config_class = DeciLMConfig

    def __init__(self, config: DeciLMConfig) -> None:
        """Build the Llama, and drop the absent parts and their norms."""
        super().__init__(config)
        for layer, block in zip(self.model.layers, config.block_configs, strict=True):
            if block.attention.no_op:
                layer.self_attn, layer.input_layernorm = AbsentAttention(), nn.Identity()
            if block.ffn.no_op:
                layer.mlp, layer.post_attention_layernorm = AbsentMlp(), nn.Identity()
