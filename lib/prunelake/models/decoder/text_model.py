"""The language model within a model: its configuration, context length and token ids."""

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

NO_LIMIT = 2**31
"""The context length of a model that works at any length, such as a recurrent one."""


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
