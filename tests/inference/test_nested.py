import random
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import PreTrainedModel

from prunelake.errors import ModelError, UnknownLayer
from prunelake.inference.lengths import CPU_LENGTHS
from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import PrefixTree, ScoringQuery
from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.models.removal import removed
from prunelake.spec import Unit
from tests.support.endurance import repeats
from tests.support.models.tiny_models import (
    LAYER_COUNT,
    SHORT_FAMILIES,
    UNITS,
    VOCABULARY,
    family_cases,
    tiny_model,
)

ORDER = (3, 0, 4, 1, 2)
NO_TREES = replace(CPU_LENGTHS, max_tree_tokens=0)  # each query is a row of its own


@torch.inference_mode()
def plainly(
    model: PreTrainedModel, query: ScoringQuery, order: tuple[int, ...], unit: Unit = "attention"
) -> NDArray[np.float64]:
    """The oracle: one pass a level and option, with the model's own masks and logits."""
    answers = np.zeros((len(query.levels), len(query.options)))
    for i, level in enumerate(query.levels):
        with removed(model, order[:level], unit):
            for j, option in enumerate(query.options):
                ids = torch.tensor([[*query.prompt, *option]])
                steps = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
                start = len(query.prompt) - 1
                answers[i, j] = sum(
                    steps[start + n, token].item() for n, token in enumerate(option)
                )
    return answers


def queries(count: int, seed: int = 0) -> list[ScoringQuery]:
    """Queries of unlike prompt lengths, option counts, option lengths and levels.

    Each other one is asked at the levels of the one before it, about its prompt with one token
    changed.
    """
    draw = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw.randrange(3, VOCABULARY) for _ in range(draw.randint(low, high)))

    found: list[ScoringQuery] = []
    for n in range(count):
        prompt = tokens(1, 12)
        levels = tuple(
            sorted(draw.sample(range(LAYER_COUNT + 1), draw.randint(1, LAYER_COUNT + 1)))
        )
        if n % 2:
            prompt, levels = found[-1].prompt, found[-1].levels
            place = draw.randrange(len(prompt))
            prompt = (*prompt[:place], *tokens(1, 1), *prompt[place + 1 :])
        options = tuple(tokens(1, 5) for _ in range(draw.randint(1, 4)))
        found.append(ScoringQuery(prompt, options, levels))
    return found


@pytest.mark.parametrize(
    ("family", "unit", "shared_prompt"),
    [
        *((family, "attention", True) for family in SHORT_FAMILIES),
        *family_cases(*product(("mlp", "block"), (True, False)), ("attention", False)),
    ],
)
def test_one_pass_equals_separate_passes(family: str, unit: Unit, shared_prompt: bool) -> None:
    model = tiny_model(family)
    nested = NestedModel(model, ORDER, 200, shared_prompt, unit)
    asked = queries(12)
    for query, got in zip(asked, nested.log_likelihoods(asked), strict=True):
        np.testing.assert_allclose(got, plainly(model, query, ORDER, unit), atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3"])
def test_a_sequence_longer_than_the_window_uses_the_models_own_masks(family: str) -> None:
    model = tiny_model(family, sliding_window=6)
    asked = [ScoringQuery((*range(3, 23),), ((5, 6), (7,)), (0, 2, 5))]
    (got,) = NestedModel(model, ORDER).log_likelihoods(asked)
    np.testing.assert_allclose(got, plainly(model, asked[0], ORDER), atol=1e-5, rtol=1e-6)


def test_levels_share_their_passes_until_they_part() -> None:
    nested = NestedModel(tiny_model("llama"), (4, 3, 2, 1, 0))
    nested.log_likelihoods([ScoringQuery((5, 6, 7), ((8,),), (0, 1, 2))])
    # Three tokens through blocks 0 to 2. Behind them level 2, behind block 3 level 1 has no more
    # attention: what is read of them, a token each, shares one row of three beside the others.
    assert nested.forward_tokens == pytest.approx((3 * 3 + (3 + 3) + (3 + 3)) / LAYER_COUNT)


def test_queries_that_begin_alike_share_their_passes() -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    asked = [ScoringQuery(prompt, ((8,),), (0,)) for prompt in [(3, 4, 5), (3, 4, 6), (3, 7, 5)]]
    nested.log_likelihoods(asked)
    # Tokens 3, 34, 345, 346, 37, 375, but behind the last attention only the last of each prompt.
    assert nested.forward_tokens == pytest.approx(6)
    nested.log_likelihoods([replace(asked[0], levels=(1,))])
    assert nested.forward_tokens == pytest.approx(6 + 3)


def test_a_batch_is_padded_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = NestedModel(tiny_model("llama"), ORDER, token_budget=160)
    sizes: list[tuple[int, int]] = []
    score = nested._score_options

    def noting(batch: list[PrefixTree], masks: LevelMasks) -> list[NDArray[np.float64]]:
        lengths = [len(row.tokens) for row in batch]
        sizes.append((sum(lengths), max(lengths) * len(batch)))
        return score(batch, masks)

    monkeypatch.setattr(nested, "_score_options", noting)
    monkeypatch.setattr(nested, "lengths", NO_TREES)
    lengths = [3, 3, 3, 4, 9, 20, 20, 21, 90]
    nested.log_likelihoods(
        [ScoringQuery((n, *range(3, 2 + m)), ((5,),), (0,)) for n, m in enumerate(lengths)]
    )
    assert sizes == [(13, 16), (9, 9), (61, 63), (90, 90)]


def test_a_level_pays_for_the_blocks_that_it_keeps() -> None:
    nested = NestedModel(tiny_model("llama"), (4, 3, 2, 1, 0), unit="block")
    nested.log_likelihoods([ScoringQuery((5, 6, 7), ((8,),), (0, 1, 2))])
    # Three tokens through blocks 0 to 2, then levels 0 and 1, then level 0 alone.
    assert nested.forward_tokens == pytest.approx((3 * 3 + 3 + 3) / LAYER_COUNT)


def test_without_mlps_all_tokens_mix_to_the_end() -> None:
    nested = NestedModel(tiny_model("llama"), (4, 3, 2, 1, 0), unit="mlp")
    nested.log_likelihoods([ScoringQuery((5, 6, 7), ((8,),), (0, 1, 2))])
    assert nested.forward_tokens == pytest.approx((3 * 3 + 2 * 3 + 3 * 3) / LAYER_COUNT)


@pytest.mark.parametrize("unit", UNITS)
def test_the_model_is_whole_again_after_an_error(unit: Unit) -> None:
    model = tiny_model("llama")
    nested = NestedModel(model, ORDER, unit=unit)
    with pytest.raises(IndexError):
        nested.log_likelihoods([ScoringQuery((VOCABULARY + 1,), ((3,),), (0, 1))])
    for module in model.modules():
        assert not module._forward_pre_hooks
        assert "forward" not in module.__dict__


def test_a_level_beyond_the_layers_is_refused() -> None:
    with pytest.raises(UnknownLayer, match="level 6: the model has 5 attention layers"):
        NestedModel(tiny_model("llama"), ORDER).log_likelihoods(
            [ScoringQuery((3,), ((4,),), (0, 6))]
        )


def test_progress_counts_up_to_all_options() -> None:
    seen: list[tuple[int, int]] = []
    nested = NestedModel(tiny_model("llama"), ORDER, token_budget=60)
    asked = queries(9)
    nested.log_likelihoods(asked, lambda done, total: seen.append((done, total)))
    count = sum(len(query.options) for query in asked)
    assert seen[-1] == (count, count)
    assert len(seen) > 1
    assert all(a < b for (a, _), (b, _) in pairwise(seen))


LLAMA = tiny_model("llama")


@settings(max_examples=repeats(10, 100))
@given(
    order=st.permutations(range(LAYER_COUNT)),
    seed=st.integers(0, 10_000),
    budget=st.integers(1, 400),
    unit=st.sampled_from([*UNITS]),
)
def test_any_order_and_any_batching_give_the_same_numbers(
    order: list[int], seed: int, budget: int, unit: Unit
) -> None:
    asked = queries(3, seed)
    nested = NestedModel(LLAMA, order, token_budget=budget, unit=unit)
    for query, got in zip(asked, nested.log_likelihoods(asked), strict=True):
        expected = plainly(LLAMA, query, tuple(order), unit)
        np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-6)


def test_blocks_may_take_their_hidden_states_by_keyword() -> None:
    model = tiny_model("llama")
    (query,) = queries(1)
    expected = plainly(model, query, ORDER)
    for block in decoder_blocks(model):
        block.module.register_forward_pre_hook(
            lambda _, args, kwargs: ((), kwargs | {"hidden_states": args[0]}), with_kwargs=True
        )
    (got,) = NestedModel(model, ORDER).log_likelihoods([query])
    np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-6)


def test_a_row_larger_than_the_memory_is_run_in_parts_of_its_levels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model("llama")
    (query,) = [ScoringQuery((*range(3, 15),), ((5, 6), (7,)), (0, 1, 2, 4, 5))]
    (expected,) = NestedModel(model, ORDER).log_likelihoods([query])
    for tokens in (1, 2 * 13, 3 * 13):
        monkeypatch.setattr(
            "prunelake.inference.nested.max_tokens_in_memory", lambda _, tokens=tokens: tokens
        )
        nested = NestedModel(model, ORDER)
        tried = with_memory_for(nested, 1, monkeypatch)
        (got,) = nested.log_likelihoods([query])
        np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-6)
        assert len(tried) == {1: 5, 26: 3, 39: 2}[tokens]


def with_memory_for(
    nested: NestedModel,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError | None = None,
) -> list[int]:
    """Let batches of more rows than these fail; the sizes of those that were tried."""
    score = nested._score_options
    tried: list[int] = []

    def limited(batch: list[PrefixTree], masks: LevelMasks) -> list[NDArray[np.float64]]:
        tried.append(len(batch))
        if len(batch) > rows:
            raise error or torch.OutOfMemoryError("CUDA out of memory")
        return score(batch, masks)

    monkeypatch.setattr(nested, "_score_options", limited)
    return tried


def test_batches_beyond_the_devices_memory_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunelake.inference.nested.row_lengths", lambda _: NO_TREES)
    asked = [ScoringQuery((*range(n, 20),), ((5, 6), (7,)), (0, 2)) for n in range(4, 16)]
    model = tiny_model("llama")
    expected = NestedModel(model, ORDER).log_likelihoods(asked)
    nested = NestedModel(model, ORDER, token_budget=8 * 2 * 16)
    tried = with_memory_for(nested, 3, monkeypatch)
    for got, wanted in zip(nested.log_likelihoods(asked), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-6)
    assert max(tried) > 3
    tried.clear()
    nested.log_likelihoods(asked)
    assert max(tried) <= 3  # it has learnt how much fits


def test_a_device_too_small_for_one_sequence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    with_memory_for(nested, 0, monkeypatch)
    with pytest.raises(ModelError, match=r"cpu has too little memory for one sequence of 4 tokens"):
        nested.log_likelihoods([ScoringQuery((3, 4, 5), ((6, 7),), (0, 1))] * 4)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory",
    ],
)
def test_any_error_of_too_little_memory_halves_a_batch(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    asked = queries(4)
    expected = nested.log_likelihoods(asked)
    gradients = nested.gradient_budget.tokens
    with_memory_for(nested, 1, monkeypatch, torch.AcceleratorError(message))
    for got, wanted in zip(nested.log_likelihoods(asked), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-6)
    assert nested.gradient_budget.tokens == gradients  # a budget of its own


def test_a_gpu_that_failed_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    failure = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nDebug")
    tried = with_memory_for(nested, 0, monkeypatch, failure)
    with pytest.raises(ModelError, match=r"cpu failed .*illegal memory.*new process") as caught:
        nested.log_likelihoods(queries(4))
    assert len(tried) == 1
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = NestedModel(tiny_model("llama"), ORDER)
    with_memory_for(nested, 0, monkeypatch, RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nested.log_likelihoods(queries(1))


def test_numbers_that_overflow_on_any_prompt_are_refused() -> None:
    model = tiny_model("llama")
    # A token that only a masked prompt has, as in float16.
    torch.nn.init.constant_(model.get_parameter("model.embed_tokens.weight")[5], float("inf"))
    asked = [ScoringQuery((3, 4), ((7,),), (0, 2)), ScoringQuery((3, 5, 6), ((7,),), (0, 2))]
    with pytest.raises(ModelError, match=r"level 0 .* prompt of . tokens .*nan.*bfloat16"):
        NestedModel(model, ORDER).log_likelihoods(asked)
