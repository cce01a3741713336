"""A pruned model that is saved and loaded again, and its next tokens."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
)

from prunelake.models.compact import save_compact
from prunelake.models.decoder.placeholders import absent_parts
from prunelake.models.loading import load_model
from prunelake.models.removal import removed, zero_out
from prunelake.models.sources import resolve_model
from prunelake.spec import Unit
from tests.support.models.tiny_models import VOCABULARY
from tests.support.models.tiny_tokenizer import tiny_tokenizer

Layers = tuple[int, ...]
NEW_TOKENS = 8
GREEDY = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}


def save(
    model: PreTrainedModel, layers: Layers, kind: str, folder: Path, unit: Unit = "attention"
) -> None:
    folder.mkdir()
    if kind == "compact":
        save_compact(model, layers, folder, unit)
    else:
        zeroed = copy.deepcopy(model)
        zero_out(zeroed, layers, unit)
        zeroed.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def read(folder: Path, kind: str) -> PreTrainedModel:
    if kind == "compact":
        return load_model(resolve_model(str(folder), folder.parent)).model
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def prompts(*lengths: int) -> list[Tensor]:
    seeded = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (length,), generator=seeded) for length in lengths]


@torch.inference_mode()
def logits_of(model: PreTrainedModel, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def continued(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The most likely next tokens, each from a separate pass over all tokens before it."""
    ids = ids[None]
    for _ in range(NEW_TOKENS):
        ids = torch.cat([ids, logits_of(model, ids)[:, -1:].argmax(-1)], dim=1)
    return ids[0, -NEW_TOKENS:]


def generated(model: PreTrainedModel, rows: list[Tensor], **options: object) -> Tensor:
    """The next tokens by the model's own `generate`, from rows that are padded on the left."""
    longest = max(len(row) for row in rows)
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0)) for row in rows])
    sizes = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(longest) >= longest - sizes[:, None]).long()
    model.generation_config = GenerationConfig(
        **GREEDY, **options
    )  # the model's own configuration would stop early
    generate: Any = model.generate
    tokens: Tensor = generate(ids, attention_mask=mask)
    return tokens[:, longest:]


def round_trip(
    model: PreTrainedModel, layers: Layers, kind: str, folder: Path, unit: Unit = "attention"
) -> tuple[PreTrainedModel, Callable[[list[Tensor]], Tensor]]:
    """The model loaded again, and a function that gives the expected next tokens of prompts."""
    save(model, layers, kind, folder, unit)

    def expected(rows: list[Tensor]) -> Tensor:
        with removed(model, layers, unit):
            return torch.stack([continued(model, row) for row in rows])

    return read(folder, kind), expected


def placeholder_layers(model: PreTrainedModel, kind: str = "attention") -> tuple[int, ...]:
    """The blocks that lack a part of this kind."""
    return tuple(part.block for part in absent_parts(model) if part.kind == kind)
