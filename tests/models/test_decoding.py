"""Greedy decoding of models without some parts: as in full passes, with and without a cache."""

import pytest
import torch

from benchmarks.models.decoding import LONG, SHORT, generated, padded_batch, recomputed
from benchmarks.models.tiny_decoders import build_tiny
from prunelake.models.removal import detached, removed
from prunelake.spec import Unit

STEPS = 4


@pytest.mark.parametrize(
    ("model_type", "unit", "layers", "allows_padding"),
    [
        ("bamba", "attention", [0], True),  # a cache that begins with a recurrent state
        ("bamba", "state_space", [0, 1], True),
        ("gemma3n_text", "attention", [0], True),  # keys and values that later blocks read
        ("mixtral", "expert", [0, 5, 10, 15], True),
        ("openai-gpt", "attention", [1], True),  # an attention that returns a list
        ("qwen3_next", "linear_attention", [0], True),
        ("rwkv", "mlp", [0], False),  # states pass through all parts; it reads padding
        ("zaya", "mlp", [0], True),  # later routers read the state of a router
    ],
)
def test_decoding_equals_whole_passes(
    model_type: str, unit: Unit, layers: list[int], allows_padding: bool
) -> None:
    model = build_tiny(model_type)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    with torch.inference_mode(), removed(model, layers, unit):
        long, short = recomputed(model, LONG, STEPS), recomputed(model, SHORT, STEPS)
    both, mask = padded_batch(LONG, SHORT)
    gap = LONG.shape[1] - SHORT.shape[1]
    with torch.inference_mode(), detached(model, layers, unit):
        for use_cache in (False, True):
            alone = generated(model, LONG, torch.ones_like(LONG), use_cache, STEPS)
            assert torch.equal(alone, long)
            if allows_padding:
                batch = generated(model, both, mask, use_cache, STEPS)
                assert torch.equal(batch[:1], long)
                assert torch.equal(batch[1:, gap:], short)


@pytest.mark.parametrize(
    ("model_type", "unit", "layers"),
    [
        ("gemma4_unified_text", "block", [0]),  # its keys are read later, so its norm stays
        ("gpt_neox_japanese", "attention", [3]),  # the block adds a bias that the attention returns
    ],
)
def test_what_other_modules_read_stays(model_type: str, unit: Unit, layers: list[int]) -> None:
    model = build_tiny(model_type)
    with torch.inference_mode():
        with removed(model, layers, unit):
            expected = model(input_ids=LONG, use_cache=False).logits
        with detached(model, layers, unit):
            found = model(input_ids=LONG, use_cache=False).logits
    assert torch.allclose(found, expected, atol=1e-5)
