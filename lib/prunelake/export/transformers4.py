"""Rewrite the text files of a portable checkpoint so that transformers 4 reads them, too.

transformers 5 renamed settings of rotary positions and classes of tokenizers. transformers 4
ignores the new names and takes its defaults, so a model computes other logits without an error.
"""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prunelake.export.tested_versions import MODEL_TYPES

GENERIC_TOKENIZER = "TokenizersBackend"
"""The class that transformers 5 writes for a tokenizer of no model; transformers 4 has none."""

SAMPLE = "The capital of France is  Paris.\n\nÜber 123?"


def add_older_names(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Add the names that transformers 4 reads to a checkpoint of one of `MODEL_TYPES`.

    A generic tokenizer keeps its class if the older class splits a text differently. transformers 4
    refuses that class, as it does for the checkpoint of another model type, which does not change.

    Args:
        folder: a checkpoint with config.json and its tokenizer.
        tokenizer: the tokenizer that was saved there.
    """
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if config.get("model_type") not in (*MODEL_TYPES, "nemotron-nas"):  # a Llama
        return
    _write(file, config | older_rope(config))
    # AutoTokenizer takes another class for some model types, and would ask to run code for others.
    is_type = config["model_type"] in MODEL_TYPES
    write_older_tokenizer(folder, tokenizer, AutoTokenizer if is_type else PreTrainedTokenizerFast)


def write_older_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, reader: Any) -> None:
    """Name a class of tokenizer that both versions know, if `reader` then splits texts as before.

    Args:
        folder: holds the tokenizer.
        tokenizer: the tokenizer that was saved there.
        reader: the class by which transformers 4 reads it.
    """
    file = folder / "tokenizer_config.json"
    before = file.read_text(encoding="utf-8")
    _write(file, _older_tokenizer(json.loads(before)))
    if reader.from_pretrained(folder).encode(SAMPLE) != tokenizer.encode(SAMPLE):
        file.write_text(before, encoding="utf-8")


def older_rope(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of rotary positions under their names in transformers 4."""
    rope = config["rope_parameters"]
    names: dict[str, Any] = {}
    if "full_attention" in rope:  # settings for each type of layer
        names["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    if rope["rope_type"] != "default":
        names["rope_scaling"] = rope
    names["rope_theta"] = rope["rope_theta"]
    if "partial_rotary_factor" in rope:
        names["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if config["model_type"] == "gpt_neox":
        names["rotary_emb_base"] = rope["rope_theta"]
        names["rotary_pct"] = rope["partial_rotary_factor"]
    return names


def _older_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    config = dict(config)
    if config.get("tokenizer_class") == GENERIC_TOKENIZER:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        # Its default in transformers 4 has token types, which `generate` refuses.
        config.setdefault("model_input_names", ["input_ids", "attention_mask"])
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config


def _write(file: Path, config: dict[str, Any]) -> None:
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8")
