"""The sizes of levels: parameters, bytes of weights, and bytes of the cache."""

from typing import Any

import pytest
import torch
from torch import nn

from prunelake.models.decoder.decoder_map import decoder_blocks, removable_parts
from prunelake.models.removal import detached
from prunelake.profiling.measurement import kv_bytes_per_token, measure_levels
from prunelake.recommend.sizes import size_shares
from prunelake.spec import Unit
from tests.support.models.measured_levels import SMALL, decoded, ids, ignore, measured
from tests.support.models.tiny_models import (
    LAYER_COUNT,
    SHORT_FAMILIES,
    UNITS,
    tiny_model,
)

KV_BYTES = 2 * 2 * 8 * 4  # of a layer: keys and values, heads, width, bytes of float32


@pytest.fixture(params=SHORT_FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_sizes_without_attention_count_the_remaining_weights(family: str) -> None:
    model = tiny_model(family)
    attentions = [part.module for (part,) in removable_parts(model, "attention")]
    every = sum(p.numel() for p in model.parameters())
    own = [sum(p.numel() for p in attention.parameters()) for attention in attentions]
    rows = measured(model, (0, 2, 5))
    expected = [every, every - own[3] - own[0], every - sum(own)]
    assert [row["level"] for row in rows] == [0, 2, 5]
    assert [row["parameter_count"] for row in rows] == expected
    assert [row["weight_bytes"] for row in rows] == [4 * count for count in expected]
    heads = getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)
    assert heads in (2, 4)
    per_layer = KV_BYTES * heads // 2
    assert [row["kv_bytes_per_token"] for row in rows] == [5 * per_layer, 3 * per_layer, 0]


@pytest.mark.parametrize("unit", ["mlp", "block"])
def test_sizes_without_mlps_or_blocks_count_the_remaining_weights(family: str, unit: Unit) -> None:
    model = tiny_model(family)
    every = sum(p.numel() for p in model.parameters())
    gone = [
        decoder_blocks(model)[3].module if unit == "block" else part.module
        for part in removable_parts(model, unit)[3][-1:]
    ]
    one = sum(p.numel() for module in gone for p in module.parameters())
    rows = measure_levels(model, (3, 0, 1, 4, 2), (0, 1, 5), SMALL, ignore, unit)
    assert [row["parameter_count"] for row in rows] == [every, every - one, every - 5 * one]
    whole = rows[0]["kv_bytes_per_token"]
    cache = [whole] * 3 if unit == "mlp" else [whole, whole * 4 // 5, 0]
    assert [row["kv_bytes_per_token"] for row in rows] == cache
    assert sum(p.numel() for p in model.parameters()) == every


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("family", SHORT_FAMILIES)
def test_the_sizes_of_unmeasured_levels_follow_from_one_level(family: str, unit: Unit) -> None:
    """`size_shares` against measured sizes: of the removed layers 0, 2 and 1, in this order."""
    model = tiny_model(family)
    levels = [0, 1, 2, 3]
    run: dict[str, Any] = {
        "architecture": type(model).__name__,
        "layer_count": LAYER_COUNT,
        "unit": unit,
        "levels": levels,
    }
    order = [0, 2, 1, *range(3, LAYER_COUNT)]
    rows = {
        row["level"]: row
        for row in measure_levels(model, order, levels, SMALL, lambda _: None, unit)
    }
    columns = {
        "kv_share": "kv_bytes_per_token",
        "weight_share": "weight_bytes",
        "parameter_share": "parameter_count",
    }
    true = {
        level: {name: row[column] / rows[0][column] for name, column in columns.items()}
        for level, row in rows.items()
    }
    found = size_shares(run, {0: true[0], 3: true[3]})
    assert found == {level: pytest.approx(shares) for level, shares in true.items()}
    assert size_shares(run, {}) == {
        n: {"kv_share": pytest.approx(true[n]["kv_share"])} for n in true
    }
    assert size_shares(run | {"architecture": "Gemma3nForCausalLM"}, {3: true[3]}) == {}


def test_tied_weights_count_once_and_bfloat16_weighs_half() -> None:
    model = tiny_model("llama", tie_word_embeddings=True)
    nn.Module.to(model, torch.bfloat16)  # the model's own `to` has no types
    (row,) = measured(model, (0,))
    shared = model.get_input_embeddings().weight
    assert model.get_output_embeddings().weight is shared
    every = sum(value.numel() for value in model.state_dict().values()) - shared.numel()
    assert row["parameter_count"] == every
    assert row["weight_bytes"] == 2 * every
    assert row["kv_bytes_per_token"] == 5 * KV_BYTES // 2


def test_the_cache_has_the_reported_size(family: str) -> None:
    model = tiny_model(family)
    with detached(model, (0, 3)):
        _, cache = decoded(model, ids())
    layers: list[Any] = cache.layers
    held = sum(t.nbytes for layer in layers for t in (layer.keys, layer.values))
    assert held == kv_bytes_per_token(cache) * ids().numel()


def test_a_sliding_window_does_not_change_the_size_of_a_token() -> None:
    model = tiny_model("mistral", sliding_window=4)
    (row,) = measured(model, (0,))
    assert row["kv_bytes_per_token"] == 5 * KV_BYTES
