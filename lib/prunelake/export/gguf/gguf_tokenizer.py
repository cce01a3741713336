"""Write a tokenizer into a GGUF file."""

import json
from pathlib import Path
from typing import Any

import gguf
from transformers import AutoTokenizer

from prunelake.errors import UnsupportedModel

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The expression by which the tokenizer of Llama 3 splits a text into words."""


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: Any) -> None:
    """Add the tokenizer of a folder to a GGUF file.

    Raises:
        UnsupportedModel: not a byte-level BPE that splits texts into words as GPT-2, SmolLM or
            Llama 3 do.
    """
    saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    splitter = _splitter(saved)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = [f"[PAD{number}]" for number in range(config.vocab_size)]
    types = [int(gguf.TokenType.UNUSED)] * config.vocab_size
    for token, number in saved["model"]["vocab"].items():
        tokens[number], types[number] = token, int(gguf.TokenType.NORMAL)
    for added in saved["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    merges = saved["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitter)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_add_bos_token(tokenizer.encode("a")[0] == tokenizer.bos_token_id)
    for name, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        if (number := getattr(tokenizer, f"{name}_token_id")) is not None:
            add(number)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _splitter(saved: dict[str, Any]) -> str:
    """llama.cpp's name of the rule that splits a text into words."""
    pre = saved["pre_tokenizer"] or {}
    steps = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    kinds = [step.get("type") for step in steps]
    if saved["model"]["type"] == "BPE" and saved["normalizer"] is None:
        last = steps[-1]
        if kinds == ["ByteLevel"] and last["use_regex"] and not last["add_prefix_space"]:
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"]:
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and steps[0]["pattern"].get("Regex") == LLAMA3_SPLIT:
            return "llama-bpe"
    raise UnsupportedModel(
        "--kind gguf: the model's tokenizer is no byte-level BPE of GPT-2, SmolLM or Llama 3, and "
        "PruneLake writes no other; take --kind portable and llama.cpp's converter"
    )
