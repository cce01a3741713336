"""Compare the logits of portable checkpoints in this transformers and in another version.

    python -m venv /tmp/tf4
    /tmp/tf4/bin/pip install torch transformers==4.57.3
    python -m benchmarks.models.transformers_versions /tmp/tf4/bin/python

Each family of the tests is a tiny random model with plain, larger, and scaled rotary positions, and
with 64 tokens. `--model REFERENCE` adds a real model without 8 of its attention layers.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from benchmarks.models.two_versions import compare_versions, save_expected
from prunelake.export.checkpoint import write_checkpoint
from prunelake.export.transformers4 import SAMPLE, add_older_names
from prunelake.models.loading import ModelSource
from prunelake.spec import CheckpointKind
from tests.support.models.tiny_models import FAMILIES, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer

SCALED = {
    "plain": {},
    "theta": {"rope_type": "default", "rope_theta": 5e5},
    "linear": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e3},
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "rope_theta": 5e3,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
        "rope_theta": 5e3,
    },
}
CHECK = """
def check(folder, expected):
    try:
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.inference_mode():
            logits = model(input_ids=expected["ids"], use_cache=False).logits
        difference = f"{float((logits - expected['logits']).abs().max()):.3g}"
    except Exception as error:
        difference = f"{type(error).__name__}: {error}"[:90]
    try:
        same = AutoTokenizer.from_pretrained(folder).encode(expected["text"]) == expected["tokens"]
    except Exception as error:
        same = f"{error}"[:60]
    return difference, same
"""


def tiny_checkpoints(folder: Path) -> Iterator[Path]:
    """A checkpoint of each family with each kind of rotary positions."""
    for family, config in FAMILIES.items():
        own = config().rope_parameters
        for name, rope in SCALED.items():
            if family == "phi3" and name not in ("plain", "theta"):
                continue  # it has other scaled positions
            changed = {k: v for k, v in own.items() if k == "partial_rotary_factor"} | rope
            if "full_attention" in own:
                slides = {"rope_type": "default", "rope_theta": 777.0}
                changed = {"full_attention": rope, "sliding_attention": slides}
            model = tiny_model(family, **({"rope_parameters": changed} if rope else {}))
            out = folder / f"{family}-{name}"
            model.save_pretrained(out)
            tiny_tokenizer().save_pretrained(out)
            save_answers(out, model)
            add_older_names(out, tiny_tokenizer())
            yield out


@torch.inference_mode()
def save_answers(folder: Path, model: PreTrainedModel) -> None:
    ids = (torch.arange(64) * 7919 % model.config.vocab_size)[None]
    logits = model(input_ids=ids, use_cache=False).logits
    tokens = AutoTokenizer.from_pretrained(folder).encode(SAMPLE)
    save_expected(folder, ids=ids, logits=logits, text=SAMPLE, tokens=tokens)


def real_checkpoint(source: ModelSource, out: Path) -> Path:
    write_checkpoint(source, range(8), CheckpointKind.portable, out, "")
    save_answers(out, AutoModelForCausalLM.from_pretrained(out))
    return out


if __name__ == "__main__":
    compare_versions(__doc__, tiny_checkpoints, real_checkpoint, CHECK)
