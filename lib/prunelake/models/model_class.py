"""The class of transformers that computes with a configuration.

A multimodal model is loaded whole, with its language model inside; PruneLake runs text through it.
"""

from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from prunelake.errors import UnsupportedModel

AUTO_CLASSES: tuple[Any, ...] = (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
)
"""The auto classes that give logits of the next token, in the order of preference."""


def auto_class(config: PretrainedConfig, trust_remote_code: bool = False) -> Any:
    """The auto class that loads a model with this configuration.

    With trust, a model that brings its own code is loaded by that code.

    Raises:
        UnsupportedModel: transformers has no model that predicts the next token for it.
    """
    if trust_remote_code and getattr(config, "auto_map", None):
        return AutoModelForCausalLM
    for auto in AUTO_CLASSES:
        if type(config) in auto._model_mapping:
            return auto
    raise UnsupportedModel(
        f"{type(config).__name__} is not supported: transformers has no causal language model for "
        "it"
    )


def model_class(config: PretrainedConfig) -> tuple[type[PreTrainedModel], PretrainedConfig]:
    """The class of the model, and the part of the configuration that the class takes.

    Raises:
        UnsupportedModel: as `auto_class`.
    """
    chosen: type[PreTrainedModel] = auto_class(config)._model_mapping[type(config)]
    text_class = config.sub_configs.get("text_config")
    if text_class is not None and chosen.config_class == text_class:
        config = config.get_text_config()
    return chosen, config


def model_from_config(
    config: PretrainedConfig, trust_remote_code: bool = False, **options: Any
) -> PreTrainedModel:
    """A model with random weights, or without weights on torch's meta device.

    Raises:
        UnsupportedModel: as `auto_class`.
    """
    auto = auto_class(config, trust_remote_code)
    model: PreTrainedModel = auto.from_config(
        config, trust_remote_code=trust_remote_code, **options
    )
    return model
