"""A model without whole blocks is a plain, smaller model."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2MoeConfig

from prunelake.errors import UnsupportedModel
from prunelake.export.checkpoint import write_checkpoint
from prunelake.export.fewer_blocks import model_with_fewer_blocks
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.spec import CheckpointKind
from tests.support.models.tiny_models import (
    GROUPED_QUERY_CONFIG,
    LAYER_COUNT,
    SHORT_FAMILIES,
    tiny_model,
)
from tests.support.models.tiny_tokenizer import tiny_tokenizer

IDS = torch.arange(3, 40)[None]


@torch.inference_mode()
def logits_of(model: PreTrainedModel) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


def written(model: PreTrainedModel, blocks: list[int], folder: Path) -> Path:
    model.save_pretrained(folder / "whole")
    tiny_tokenizer().save_pretrained(folder / "whole")
    source = resolve_model(str(folder / "whole"), folder, "block")
    out = folder / "out"
    write_checkpoint(source, blocks, CheckpointKind.portable, out, "", unit="block")
    return out


@pytest.mark.parametrize("family", SHORT_FAMILIES)
def test_the_blocks_are_renumbered(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    out = written(model, [0, 3], tmp_path)
    again = AutoModelForCausalLM.from_pretrained(out)
    with removed(model, [0, 3], "block"):
        assert torch.equal(logits_of(again), logits_of(model))
    assert again.config.num_hidden_layers == LAYER_COUNT - 2
    whole, smaller = (
        (folder / "model.safetensors").stat().st_size for folder in (tmp_path / "whole", out)
    )
    assert smaller < whole


def test_lists_with_an_entry_for_each_block_lose_the_entries_of_removed_blocks(
    tmp_path: Path,
) -> None:
    model = tiny_model("gemma2")
    types = model.config.layer_types
    assert len(set(types)) == 2
    out = written(model, [1, 2], tmp_path)
    config = json.loads((out / "config.json").read_text())
    assert config["layer_types"] == [types[0], types[3], types[4]]


def test_blocks_that_depend_on_their_place_become_zeros(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        **GROUPED_QUERY_CONFIG,
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        num_experts=4,
        num_experts_per_tok=2,
        mlp_only_layers=[1],
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UnsupportedModel, match="no configuration has its other 3 blocks"):
        model_with_fewer_blocks(model, [0, 3])
    again = AutoModelForCausalLM.from_pretrained(written(model, [0, 3], tmp_path))
    assert again.config.num_hidden_layers == LAYER_COUNT
    with removed(model, [0, 3], "block"):
        assert torch.equal(logits_of(again), logits_of(model))


def test_a_model_keeps_a_block() -> None:
    with pytest.raises(UnsupportedModel, match="no block would remain"):
        model_with_fewer_blocks(tiny_model("llama"), range(LAYER_COUNT))


def test_the_whole_model_does_not_change() -> None:
    model = tiny_model("llama")
    before = logits_of(model)
    smaller = model_with_fewer_blocks(model, [2])
    assert torch.equal(logits_of(model), before)
    assert model.config.num_hidden_layers == LAYER_COUNT
    assert smaller.config.num_hidden_layers == LAYER_COUNT - 1
