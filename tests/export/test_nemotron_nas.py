"""Checkpoints in the format of nemotron-nas: transformers runs them, and vLLM's rules fit them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from prunelake.errors import UnsupportedModel
from prunelake.export.checkpoint import write_checkpoint
from prunelake.export.nemotron_nas import load_nemotron_nas
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.spec import CheckpointKind, Unit
from tests.support.models.tiny_models import LAYER_COUNT, tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer

IDS = torch.arange(3, 40)[None]
LAYERS = [1, 3]


def written(model: PreTrainedModel, layers: list[int], unit: Unit, folder: Path) -> Path:
    model.save_pretrained(folder / "whole")
    tiny_tokenizer().save_pretrained(folder / "whole")
    source = resolve_model(str(folder / "whole"), folder, unit)
    out = folder / "out"
    write_checkpoint(source, layers, CheckpointKind.nemotron_nas, out, "", unit=unit)
    return out


@torch.inference_mode()
def logits_of(model: PreTrainedModel) -> Tensor:
    logits: Tensor = model(input_ids=IDS).logits
    return logits


@torch.inference_mode()
def in_vllms_order(model: Any) -> Tensor:
    """The logits as vLLM's DeciLM adds them up: a norm adds its input to a residual first.

    A block without attention passes the pair on, and its second norm adds the block's input. Block
    0 has no residual yet.
    """

    def added(norm: Any, hidden: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        total = hidden if residual is None else hidden + residual
        return norm(total), total

    decoder = model.model
    hidden, residual = decoder.embed_tokens(IDS), None
    positions = torch.arange(IDS.shape[1])[None]
    rotary = decoder.rotary_emb(hidden, positions)
    mask = torch.full((IDS.shape[1],) * 2, -1e9).triu(1)[None, None]
    for layer, block in zip(decoder.layers, model.config.block_configs, strict=True):
        if not block.attention.no_op:
            hidden, residual = added(layer.input_layernorm, hidden, residual)
            hidden, _ = layer.self_attn(hidden, position_embeddings=rotary, attention_mask=mask)
        if not block.ffn.no_op:
            assert residual is not None  # vLLM's norm returns no pair without one
            hidden, residual = added(layer.post_attention_layernorm, hidden, residual)
            hidden = layer.mlp(hidden)
    hidden, _ = added(decoder.norm, hidden, residual)
    logits: Tensor = model.lm_head(hidden)
    return logits


@pytest.mark.parametrize(("unit", "tied"), [("attention", True), ("mlp", False)])
def test_transformers_and_vllms_rules_give_the_logits_of_the_pruned_model(
    unit: Unit, tied: bool, tmp_path: Path
) -> None:
    rope = {"rope_type": "default", "rope_theta": 777.0}
    model = tiny_model("llama", tie_word_embeddings=tied, rope_parameters=rope)
    again = load_nemotron_nas(written(model, LAYERS, unit, tmp_path)).eval()
    with removed(model, LAYERS, unit):
        expected = logits_of(model)
    assert torch.equal(logits_of(again), expected)
    torch.testing.assert_close(in_vllms_order(again), expected, atol=1e-4, rtol=0)
    generate: Any = again.generate
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with_cache, without = (generate(IDS, use_cache=cached, **options) for cached in (True, False))
    assert torch.equal(with_cache, without)


def test_the_weights_and_widths_are_those_that_vllm_asks_for(tmp_path: Path) -> None:
    model = tiny_model("llama", intermediate_size=256, tie_word_embeddings=True)
    out = written(model, LAYERS, "attention", tmp_path)
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["DeciLMForCausalLM"]
    assert config["model_type"] == "nemotron-nas"
    expected = {"model.embed_tokens.weight", "model.norm.weight"}
    for number, block in enumerate(config["block_configs"]):
        names = ["post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
        if not block["attention"]["no_op"]:
            names += ["input_layernorm", *(f"self_attn.{name}_proj" for name in "qkvo")]
            heads = config["num_attention_heads"] // block["attention"]["n_heads_in_group"]
            assert heads == config["num_key_value_heads"]
        expected |= {f"model.layers.{number}.{name}.weight" for name in names}
        width = int(2 * block["ffn"]["ffn_mult"] * config["hidden_size"] / 3)
        assert width + -width % 256 == 256
    assert [block["attention"]["no_op"] for block in config["block_configs"]] == [
        number in LAYERS for number in range(LAYER_COUNT)
    ]
    with safe_open(out / "model.safetensors", "pt") as stored:
        assert {*stored.keys()} == expected


def test_transformers_runs_the_files_of_the_folder(tmp_path: Path) -> None:
    out = written(tiny_model("llama"), LAYERS, "attention", tmp_path)
    assert {file.name for file in out.glob("*.py")} == {
        "configuration_decilm.py",
        "modeling_decilm.py",
    }
    config = json.loads((out / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_decilm.DeciLMForCausalLM"
    names: dict[str, Any] = {}
    for name in ("configuration_decilm", "modeling_decilm"):
        text = (out / f"{name}.py").read_text().replace("from .configuration_decilm import", "#")
        exec(compile(text, name, "exec"), names)  # they import transformers and torch only
    again = names["DeciLMForCausalLM"].from_pretrained(out).eval()
    assert torch.equal(logits_of(again), logits_of(load_nemotron_nas(out).eval()))
    tokenizer = AutoTokenizer.from_pretrained(out, trust_remote_code=False)
    assert tokenizer.encode("Is it yes?") == tiny_tokenizer().encode("Is it yes?")


@pytest.mark.parametrize(
    ("family", "layers", "unit", "reason"),
    [
        ("llama", [0, 2], "attention", "starts the sum of its blocks' outputs at the attention of"),
        ("llama", [1], "block", "a plain smaller model, which vLLM runs as it is"),
        ("qwen2", [1], "attention", "this is a qwen2 model"),
    ],
)
def test_a_level_that_vllm_cannot_express_is_refused(
    family: str, layers: list[int], unit: Unit, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        written(tiny_model(family), layers, unit, tmp_path)
    assert not (tmp_path / "out").exists()
