"""Compare compact checkpoints with code in this transformers and in another version.

    python -m venv /tmp/tf4
    /tmp/tf4/bin/pip install torch transformers==4.57.3
    python -m benchmarks.models.compact_code /tmp/tf4/bin/python

Each family of the tests is a tiny random model without two of its attention layers, MLPs or blocks,
with tied and untied embeddings. `--model REFERENCE` adds a real model without 8 attention layers.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.models.two_versions import compare_versions, save_expected
from prunelake.export.checkpoint import write_checkpoint
from prunelake.models.loading import ModelSource, load_model
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.spec import CheckpointKind, Unit
from tests.support.models.tiny_models import FAMILIES, UNITS, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer

GREEDY: dict[str, Any] = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0}
CHECK = """
def check(folder, expected):
    ids, mask, greedy = expected["ids"], expected["mask"], expected["greedy"]
    try:
        load = AutoModelForCausalLM.from_pretrained
        model = load(folder, trust_remote_code=True, dtype=torch.float32).eval()
    except ImportError as error:
        return f"refused: {error}", "-"
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        same = True
        for options in ({}, {"cache_implementation": "static"}, {"use_cache": False}):
            tokens = model.generate(ids, attention_mask=mask, **greedy, **options)
            same = same and torch.equal(tokens, expected["tokens"])
    return f"{float((logits - expected['logits']).abs().max()):.3g}", same
"""


@torch.inference_mode()
def checkpoint(source: ModelSource, layers: list[int], unit: Unit, out: Path) -> Path:
    """A checkpoint, beside it the logits and the tokens of the pruned model for padded prompts."""
    write_checkpoint(source, layers, CheckpointKind.compact, out, "", unit=unit, with_code=True)
    model = load_model(source).model
    ids = (torch.arange(24) * 13 % 90 + 3).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    greedy = GREEDY | {"eos_token_id": None}
    with removed(model, layers, unit):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        generate: Any = model.generate
        tokens = generate(ids, attention_mask=mask, use_cache=False, **greedy)
    save_expected(out, ids=ids, mask=mask, greedy=greedy, logits=logits, tokens=tokens)
    return out


def tiny_checkpoints(folder: Path) -> Iterator[Path]:
    """A checkpoint of each family and unit; the embeddings of every second one are tied."""
    for number, family in enumerate(FAMILIES):
        for place, unit in enumerate(UNITS):
            own = folder / f"{family}-whole-{unit}"
            is_tied = (number + place) % 2 == 0
            tiny_model(family, tie_word_embeddings=is_tied).save_pretrained(own)
            tiny_tokenizer().save_pretrained(own)
            source = resolve_model(str(own), folder / "cache")
            yield checkpoint(source, [0, 3], unit, folder / f"{family}-{unit}")


def real_checkpoint(source: ModelSource, out: Path) -> Path:
    return checkpoint(source, [*range(8)], "attention", out)


if __name__ == "__main__":
    compare_versions(__doc__, tiny_checkpoints, real_checkpoint, CHECK)
