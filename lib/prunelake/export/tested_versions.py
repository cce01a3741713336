"""The versions of transformers that read portable checkpoints. Nothing here loads torch."""

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
"""The model types whose logits were equal, by `benchmarks.transformers_versions`."""
