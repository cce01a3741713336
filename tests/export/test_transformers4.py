"""Portable checkpoints have the names that transformers 4 reads, and transformers 5 reads the same.

`benchmarks/models/transformers_versions.py` compares the logits in both.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunelake.export.tested_versions import MODEL_TYPES
from prunelake.export.transformers4 import add_older_names
from tests.support.models.tiny_models import FAMILIES, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer

IDS = torch.arange(24)[None]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SLOW, FAST = (
    {"rope_type": "default", "rope_theta": 5e5},
    {"rope_type": "default", "rope_theta": 7.0},
)


def rewritten(folder: Path, family: str, **changes: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """The logits before the rewriting, and the configuration after it."""
    model = tiny_model(family, **changes)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    add_older_names(folder, tiny_tokenizer())
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits, json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("family", "changes", "names"),
    [
        ("llama", {"rope_parameters": SLOW}, {"rope_theta": 5e5}),
        (
            "qwen3",
            {"rope_parameters": YARN | {"rope_theta": 5e5}},
            {"rope_theta": 5e5, "rope_scaling": YARN | {"rope_theta": 5e5}},
        ),
        (
            "gemma3",
            {
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
                    "sliding_attention": FAST,
                }
            },
            {
                "rope_theta": 5e5,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
                "rope_local_base_freq": 7.0,
            },
        ),
        (
            "gpt_neox",
            {"rope_parameters": SLOW | {"partial_rotary_factor": 0.25}},
            {"rotary_emb_base": 5e5, "rotary_pct": 0.25},
        ),
    ],
)
def test_rotary_settings_have_both_names(
    family: str, changes: dict[str, Any], names: dict[str, Any], tmp_path: Path
) -> None:
    logits, config = rewritten(tmp_path, family, **changes)
    assert names.items() <= config.items()
    assert config["rope_parameters"] == changes["rope_parameters"]
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(again(input_ids=IDS).logits, logits)


def test_transformers_4_finds_the_class_of_the_tokenizer(tmp_path: Path) -> None:
    rewritten(tmp_path, "llama")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode("Is it yes?") == tiny_tokenizer().encode("Is it yes?")


def test_a_tokenizer_that_would_split_otherwise_keeps_its_class(tmp_path: Path) -> None:
    # By this class, transformers 5 makes a tokenizer of Qwen2 from the same vocabulary.
    rewritten(tmp_path, "qwen2")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "TokenizersBackend"


def test_another_model_type_keeps_its_names(tmp_path: Path) -> None:
    assert "gemma2" in FAMILIES
    assert "gemma2" not in MODEL_TYPES
    _, config = rewritten(tmp_path, "gemma2")
    assert "rope_theta" not in config
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "TokenizersBackend"


def test_special_tokens_have_their_older_name(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>"]})
    tiny_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    add_older_names(tmp_path, tokenizer)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["additional_special_tokens"] == ["<tool>"]
    assert "extra_special_tokens" not in config
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode("<tool>") == [len(tiny_tokenizer())]
