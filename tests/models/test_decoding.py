"""Greedy decoding of models without some parts: as in full passes, with and without a cache."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.tiny_decoders import build_tiny
from prunelake.models.removal import detached, removed
from prunelake.spec import Unit

STEPS = 4
LONG, SHORT = torch.tensor([[5, 6, 7, 8, 9, 10, 11]]), torch.tensor([[20, 21, 22, 23]])


@torch.inference_mode()
def _recomputed(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The prompt and the most probable tokens behind it, from a whole pass for each."""
    for _ in range(STEPS):
        logits = model(input_ids=ids, use_cache=False).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    return ids


def _generated(
    model: PreTrainedModel, ids: Tensor, use_cache: bool, mask: Tensor | None = None
) -> Tensor:
    found: Tensor = model.generate(  # type: ignore[operator]  # its type is a union
        input_ids=ids,
        attention_mask=torch.ones_like(ids) if mask is None else mask,
        max_new_tokens=STEPS,
        do_sample=False,
        use_cache=use_cache,
        pad_token_id=0,
    )
    return found


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
    with removed(model, layers, unit):
        long, short = _recomputed(model, LONG), _recomputed(model, SHORT)
    padding = torch.zeros_like(LONG[:, SHORT.shape[1] :])
    both = torch.cat([LONG, torch.cat([padding, SHORT], dim=1)])
    mask = torch.ones_like(both)
    mask[1, : padding.shape[1]] = 0
    with detached(model, layers, unit):
        for use_cache in (False, True):
            assert torch.equal(_generated(model, LONG, use_cache), long)
            if allows_padding:
                batch = _generated(model, both, use_cache, mask)
                assert torch.equal(batch[:1], long)
                assert torch.equal(batch[1:, padding.shape[1] :], short)


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
