"""A model that is saved without layers and loaded again equals the model run without them."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.models.removal import removed
from prunelake.spec import Unit
from tests.support.models.saved_models import (
    Layers,
    generated,
    logits_of,
    placeholder_layers,
    prompts,
    read,
    round_trip,
    save,
)
from tests.support.models.tiny_models import LAYER_COUNT, UNITS, family_cases, tiny_model

KINDS = ("portable", "compact")
CHOICES: dict[str, Layers] = {
    "block 0": (0, 3),
    "later ones": (1, 2),
    "all": tuple(range(LAYER_COUNT)),
}
SLIDING: dict[str, Layers] = {**CHOICES, "all of one type": (0, 1, 2, 3)}


@pytest.mark.parametrize(
    ("family", "kind", "unit", "choice"),
    family_cases(
        *(
            (kind, *case)
            for kind in KINDS
            for case in (
                *product(("attention",), ("block 0", "later ones", "all")),
                *product(("mlp", "block"), ("block 0", "all")),
            )
        )
    ),
)
def test_a_saved_model_equals_the_pruned_model(
    family: str, choice: str, kind: str, unit: Unit, tmp_path: Path
) -> None:
    model, layers = tiny_model(family), CHOICES[choice]
    again, expected = round_trip(model, layers, kind, tmp_path / "saved", unit)
    ids = torch.stack(prompts(11, 11))
    with removed(model, layers, unit):
        wanted = logits_of(model, ids)
    assert torch.equal(logits_of(again, ids), wanted)
    assert (wanted - logits_of(model, ids)).abs().max() > 1e-2
    rows = prompts(9, 4, 6)
    for use_cache in (True, False):
        assert torch.equal(generated(again, rows, use_cache=use_cache), expected(rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("choice", SLIDING)
@pytest.mark.parametrize("family", ["mistral", "gemma3"])  # all layers slide, or some
def test_decoding_past_a_sliding_window(
    family: str, choice: str, kind: str, tmp_path: Path
) -> None:
    # Sliding and full layers both lose their first cache layer.
    types = ["sliding_attention"] * 4 + ["full_attention"]
    changes = {"sliding_window": 5} | ({} if family == "mistral" else {"layer_types": types})
    model = tiny_model(family, **changes)
    again, expected = round_trip(model, SLIDING[choice], kind, tmp_path / "saved")
    rows = prompts(9, 3)
    assert torch.equal(generated(again, rows), expected(rows))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("choice", CHOICES)
def test_decoding_with_a_static_cache(choice: str, unit: Unit, tmp_path: Path) -> None:
    model = tiny_model("llama")
    again, expected = round_trip(model, CHOICES[choice], "compact", tmp_path / "saved", unit)
    rows = prompts(9, 4)
    assert torch.equal(generated(again, rows, cache_implementation="static"), expected(rows))


@pytest.mark.parametrize("choice", CHOICES)
def test_beam_search_reorders_the_cache(choice: str, tmp_path: Path) -> None:
    model = tiny_model("llama")
    again, _ = round_trip(model, CHOICES[choice], "compact", tmp_path / "saved")
    rows = prompts(9, 4)
    assert torch.equal(
        generated(again, rows, num_beams=3), generated(again, rows, num_beams=3, use_cache=False)
    )


@pytest.mark.parametrize("unit", ["attention", "block"])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("has_config", [True, False])
def test_the_cache_is_empty_for_absent_attention(
    has_config: bool, choice: str, unit: Unit, tmp_path: Path
) -> None:
    model, layers = tiny_model("llama"), CHOICES[choice]
    again, _ = round_trip(model, layers, "compact", tmp_path / "saved", unit)
    cache = DynamicCache(config=again.config if has_config else None)
    ids = torch.stack(prompts(11, 11))
    wanted = logits_of(again, ids)
    with torch.inference_mode():
        for start, end in ((0, 6), (6, 7), (7, 11)):
            part = again(input_ids=ids[:, start:end], past_key_values=cache).logits
            torch.testing.assert_close(part, wanted[:, start:end], atol=1e-4, rtol=0)
    assert cache.get_seq_length() == 11
    kept: list[Tensor] = [keys for keys, *_ in cache]
    assert [keys.numel() == 0 for keys in kept] == [n in layers for n in range(len(kept))]
    cache.crop(-4)
    with torch.inference_mode():
        part = again(input_ids=ids[:, 7:], past_key_values=cache).logits
    torch.testing.assert_close(part, wanted[:, 7:], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("family", "tied", "unit"),
    family_cases(*product((False, True), ("attention", "mlp", "block"))),
)
def test_a_compact_checkpoint_holds_only_the_remaining_weights(
    family: str, tied: bool, unit: Unit, tmp_path: Path
) -> None:
    model = tiny_model(family, tie_word_embeddings=tied)
    name = {"attention": "att", "mlp": "mlp.", "block": ""}[unit]
    removed_count = sum(
        weight.numel()
        for n in (0, 3)
        for of, weight in decoder_blocks(model)[n].module.named_parameters()
        if name in of and (not name or "norm" not in of.partition(".")[0])
    )
    again, _ = round_trip(model, (0, 3), "compact", tmp_path / "saved", unit)
    assert again.num_parameters() == model.num_parameters() - removed_count > 0
    assert placeholder_layers(again) == (() if unit == "mlp" else (0, 3))
    assert placeholder_layers(again, "mlp") == (() if unit == "attention" else (0, 3))
    stored = load_file(tmp_path / "saved" / "compact.safetensors")
    assert sum(weight.numel() for weight in stored.values()) == again.num_parameters()


def test_attention_and_mlp_may_be_removed_one_after_the_other(tmp_path: Path) -> None:
    model = tiny_model("olmo2")
    without_attention, _ = round_trip(model, (0, 3), "compact", tmp_path / "first")
    save(without_attention, (1, 3), "compact", tmp_path / "both", "mlp")
    both = read(tmp_path / "both", "compact")
    assert (placeholder_layers(both), placeholder_layers(both, "mlp")) == ((0, 3), (1, 3))
    assert not [*decoder_blocks(both)[3].module.parameters()]
    assert [*decoder_blocks(both)[1].module.parameters()]
    ids = prompts(7)[0][None]
    with removed(model, (0, 3)), removed(model, (1, 3), "mlp"):
        assert torch.equal(logits_of(both, ids), logits_of(model, ids))


@pytest.mark.parametrize("unit", UNITS)
def test_a_compact_checkpoint_can_be_evaluated(unit: Unit, tmp_path: Path) -> None:
    model, order = tiny_model("llama"), (3, 0, 2, 1, 4)
    again, _ = round_trip(model, order[:2], "compact", tmp_path / "saved", unit)
    query = ScoringQuery(tuple(prompts(9)[0].tolist()), ((5, 6), (7,)), (2, 4))
    expected = NestedModel(model, order, unit=unit).log_likelihoods([query])[0]
    got = NestedModel(again, order, unit=unit).log_likelihoods([query])[0]
    assert abs(got - expected).max() < 1e-5
    unpruned = NestedModel(again, order, unit=unit).log_likelihoods([replace(query, levels=(0,))])[
        0
    ]
    assert abs(unpruned - expected[:1]).max() < 1e-5


def test_a_compact_checkpoint_keeps_the_generation_config(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.generation_config = GenerationConfig(eos_token_id=[7, 9], pad_token_id=5)
    again, _ = round_trip(model, (1,), "compact", tmp_path / "saved")
    assert again.generation_config.eos_token_id == [7, 9]
    assert again.generation_config.pad_token_id == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_number_format_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    model = tiny_model("gemma3")
    torch.nn.Module.to(model, dtype)
    save(model, (0,), "compact", tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "compact.safetensors")
    assert {weight.dtype for weight in stored.values()} == {dtype}
    config = json.loads((tmp_path / "saved" / "config.json").read_text())["config"]
    assert config["dtype"] == str(dtype).split(".")[1]
