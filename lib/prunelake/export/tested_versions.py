"""The versions of transformers that read exported checkpoints. Nothing here loads torch."""

TRANSFORMERS_4 = "4.57.3"
MODEL_TYPES = (
    "gemma3_text",
    "gpt_neox",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
)
"""The model types whose logits were equal, by `benchmarks.models.transformers_versions`."""

COMPACT_CODE_TYPES = tuple(name for name in MODEL_TYPES if name != "gpt_neox")
"""The same for compact checkpoints with code. In transformers 4, a weight of GPT-NeoX has another
name."""


def oldest_version(model_type: str, tested: tuple[str, ...]) -> str:
    """The oldest transformers that reads a model of this type."""
    return TRANSFORMERS_4 if model_type in tested else "5"
