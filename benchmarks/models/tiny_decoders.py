"""Tiny random models of any causal-LM class that transformers knows.

    model = build_tiny("qwen3_next")

A default configuration is made small by the names of its fields; `SPECIAL_FIELDS` holds the fields
of the model types that need other values. Weights are random and seeded.
"""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.utils import logging as transformers_logging

from prunelake.models.model_class import model_from_config

VOCABULARY = 97
BLOCKS = 4

FIELDS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_vocab": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "hidden_size": 32,
    "n_embd": 32,
    "d_model": 32,
    "embedding_size": 32,
    "emb_dim": 32,
    "word_embed_proj_dim": 32,
    "n_ctx": 128,
    "n_positions": 128,
    "max_seq_len": 128,
    "max_position_embeddings": 128,
    "num_hidden_layers": BLOCKS,
    "n_layer": BLOCKS,
    "n_layers": BLOCKS,
    "num_layers": BLOCKS,
    "decoder_layers": BLOCKS,
    "encoder_layers": 1,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_kv_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "ffn_hidden_size": 48,
    "ffn_dim": 48,
    "n_inner": 48,
    "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "query_pre_attn_scalar": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_n_heads": 4,
    "mamba_num_heads": 4,
    "n_mamba_heads": 4,
    "mamba_d_head": 16,
    "mamba_head_dim": 16,
    "mamba_headdim": 16,
    "mamba_d_ssm": 64,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_ngroups": 1,
    "mamba_dt_rank": 4,
    "n_groups": 1,
    "state_size": 8,
    "ssm_state_size": 8,
    "conv_kernel": 4,
    "lru_width": 32,
    "block_size": 16,
    "chunk_size": 8,
    "sliding_window": 64,
    "attention_chunk_size": 64,
    "index_topk": 64,
    "index_n_heads": 2,
    "index_head_dim": 8,
    "initializer_range": 0.3,
    "attn_pdrop": 0.0,
}
"""Small values by the name of a field."""

HYBRID = ["linear_attention", "full_attention"] * (BLOCKS // 2)

SECTIONED_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}

SPECIAL_FIELDS: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"layer_types": HYBRID, "num_key_value_heads": 4},
    "bamba": {"attn_layer_indices": [1, 3], "mamba_d_head": 16},
    "codegen": {"rotary_dim": 4},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots1": {
        "num_key_value_heads": 4,
        "n_shared_experts": 1,
        "layer_types": ["full_attention"] * 4,
    },
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16},
    "gemma3n_text": {
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
    },
    "gemma4_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "hidden_size_per_layer_input": 8,
    },
    "gemma4_unified_text": {
        "num_kv_shared_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 64},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "kimi_linear": {"layer_types": HYBRID, "linear_num_heads": 4, "linear_head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"zero_expert_num": 2, "expert_ffn_hidden_size": 16},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1},
    "nemotron_h": {"head_dim": 8},
    "qwen3_5_moe_text": {"layer_types": HYBRID},
    "qwen3_5_text": {"layer_types": HYBRID},
    "qwen3_next": {"layer_types": HYBRID},
    "qwen2_5_vl_text": {"rope_parameters": SECTIONED_ROPE},
    "qwen2_vl_text": {"rope_parameters": SECTIONED_ROPE},
    "xlstm": {"num_blocks": BLOCKS},
    "zamba2": {
        "n_mamba_heads": 4,
        "num_key_value_heads": 4,
        "layers_block_type": ["mamba", "hybrid"] * 2,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}
"""Fields of a model type that replace or extend `FIELDS`; None leaves a field at its default."""


def causal_types() -> list[str]:
    """The model types of all classes that transformers maps to a causal language model."""
    return sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def wrapper_types() -> list[str]:
    """The model types of the other classes that hold a language model: multimodal ones."""
    return sorted({*modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES} - {*causal_types()})


def tiny_config(model_type: str) -> PretrainedConfig:
    """The small configuration of a model type."""
    return _small(CONFIG_MAPPING[model_type], model_type)


def _small(config_class: Any, model_type: str) -> PretrainedConfig:
    special = SPECIAL_FIELDS.get(model_type, {})
    known = _field_names(config_class)
    chosen = {name: value for name, value in FIELDS.items() if name in known}
    if "kv_lora_rank" in known:  # latent attention has as many key heads as query heads
        chosen.pop("num_key_value_heads", None)
        chosen |= {"num_key_value_heads": 4} if "num_key_value_heads" in known else {}
    chosen |= special
    chosen = {name: value for name, value in chosen.items() if value is not None}
    inner: dict[str, Any] = getattr(config_class, "sub_configs_defaults", config_class.sub_configs)
    if inner:
        default = config_class()
        for name in inner.keys() - {*special}:
            own: Any = getattr(default, name, None)
            if isinstance(own, PretrainedConfig) and own.model_type:
                chosen[name] = _small(type(own), own.model_type).to_dict()
    config: PretrainedConfig = config_class(**chosen)
    return config


def _field_names(config_class: Any) -> set[str]:
    """The fields of a configuration that can be given, also under their general names."""
    fields = {*getattr(config_class, "__dataclass_fields__", {})}
    names: set[str] = {name for name, own in config_class.attribute_map.items() if own in fields}
    return {n for n in fields | names if not isinstance(getattr(config_class, n, None), property)}


def build_tiny(model_type: str) -> PreTrainedModel:
    """A model of this type with seeded random weights, also of its norms and biases."""
    transformers_logging.set_verbosity_error()
    torch.manual_seed(0)
    model = model_from_config(tiny_config(model_type))
    for name, parameter in model.named_parameters():
        # A weight that begins as zero would hide a removal.
        is_zero = parameter.device.type != "meta" and not parameter.any()
        if name.endswith("bias") or "norm" in name or is_zero:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval().requires_grad_(False)
    return model
