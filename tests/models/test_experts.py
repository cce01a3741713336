"""Routers that choose among fewer experts: as in a model that never had the others."""

from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.models.tiny_decoders import BLOCKS, build_tiny
from prunelake.errors import UnknownLayer, UnsupportedModel
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.decoder.experts import choices, expert_mixtures, without_experts
from prunelake.models.decoder.level_range import LevelRange, level_range
from prunelake.models.expert_deletion import check_routing, deleted_experts
from prunelake.spec import Strategy
from prunelake.strategies.expert_order import expert_use
from prunelake.strategies.removal_order import removal_order
from tests.support.models.expert_models import (
    COUNT_FIELDS,
    EXPERTS,
    ONE_EACH,
    TWO_EACH,
    kept_experts,
    logits,
    numbers_of,
    smaller_mixture,
)

WINDOWS = [tuple(range(3, 60)), tuple(range(40, 90))]


@pytest.mark.parametrize("model_type", COUNT_FIELDS)
def test_a_removed_expert_is_as_if_it_had_never_been_there(model_type: str) -> None:
    model = build_tiny(model_type)
    before = logits(model)
    check_routing(model)
    for removed in (ONE_EACH, TWO_EACH):
        expected = logits(smaller_mixture(model, model_type, kept_experts(removed)))
        assert not torch.allclose(before, expected, atol=0.1)
        with without_experts(model, numbers_of(removed)):
            assert torch.allclose(logits(model), expected, atol=1e-4)
        with deleted_experts(model, numbers_of(removed)):
            assert torch.allclose(logits(model), expected, atol=1e-4)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("model_type", ["deepseek_v3", "ernie4_5_moe", "lfm2_moe"])
def test_a_bias_of_the_choice_brings_no_removed_expert_back(model_type: str) -> None:
    model = build_tiny(model_type)
    biases = [
        b for name, b in [*model.named_buffers(), *model.named_parameters()] if "bias" in name
    ]
    for bias in (b for b in biases if b.shape[-1] == EXPERTS):
        bias.data += torch.linspace(5, 0, EXPERTS)  # the first experts are always preferred
    check_routing(model)
    mixture = expert_mixtures(model)[0]
    chosen: list[torch.Tensor] = []
    with without_experts(model, [0]), choices(mixture, chosen.append):
        logits(model)
    assert chosen[0].shape == (22, mixture.chosen)
    assert {*chosen[0].flatten().tolist()} <= {1, 2, 3}


def test_levels_have_the_numbers_of_smaller_mixtures() -> None:
    model = build_tiny("mixtral")
    order = removal_order(model, Strategy(name="use", unit="expert"), WINDOWS)
    nested = NestedModel(model, order.layers, unit="expert")
    queries = [
        ScoringQuery((5, 6, 7, 8), ((9, 10), (11,)), (0, 1, 2)),
        ScoringQuery((5, 6, 30), ((12,), (13, 14, 15)), (0, 2)),
    ]
    found = nested.log_likelihoods(queries)
    for query, answer in zip(queries, found, strict=True):
        for level, row in zip(query.levels, answer, strict=True):
            lacked = order.layers[: level * BLOCKS]
            removed = [[n % EXPERTS for n in lacked if n // EXPERTS == b] for b in range(BLOCKS)]
            smaller = smaller_mixture(model, "mixtral", kept_experts(removed))
            for option, value in zip(query.options, row, strict=True):
                ids = torch.tensor([[*query.prompt, *option]])
                steps = smaller(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
                start = len(query.prompt) - 1
                expected = sum(steps[start + n, t].item() for n, t in enumerate(option))
                assert value == pytest.approx(expected, abs=1e-4)
    with pytest.raises(UnknownLayer, match=r"level 3: the model has 2 experts of each block"):
        nested.log_likelihoods([ScoringQuery((5,), ((6,),), (3,))])


def test_the_least_used_expert_of_each_block_goes_first() -> None:
    model = build_tiny("qwen3_moe")
    mixtures = expert_mixtures(model)
    counts = torch.zeros(BLOCKS, EXPERTS)
    for window in WINDOWS:  # the router's own weights show the choice
        for block, mixture in enumerate(mixtures):

            def count(_: nn.Module, __: object, output: Any, block: int = block) -> None:
                top = output[0].topk(2).indices
                counts[block] += torch.zeros_like(output[0]).scatter_(1, top, 1).sum(0)

            hook = mixture.router.register_forward_hook(count)
            model(input_ids=torch.tensor([window]), use_cache=False)
            hook.remove()
    use = expert_use(model, WINDOWS)
    assert torch.allclose(torch.tensor(use).float(), counts / sum(map(len, WINDOWS)))
    assert use.sum(axis=1) == pytest.approx([2] * BLOCKS)
    order = removal_order(model, Strategy(name="use", unit="expert"), WINDOWS)
    rounds = [order.layers[n : n + BLOCKS] for n in range(0, BLOCKS * EXPERTS, BLOCKS)]
    assert all([n // EXPERTS for n in own] == [*range(BLOCKS)] for own in rounds)
    ranked = counts.argsort(dim=1, stable=True)
    assert [[n % EXPERTS for n in own] for own in rounds] == ranked.T.tolist()


def test_iterative_measures_the_use_again_without_the_removed_experts() -> None:
    model = build_tiny("mixtral")
    order = removal_order(model, Strategy(name="iterative", unit="expert"), WINDOWS, depth=2)
    removed: list[int] = []
    for level in range(2):
        with without_experts(model, removed):
            use = expert_use(model, WINDOWS).ravel()
        left = [n for n in range(BLOCKS * EXPERTS) if n not in removed]
        step = [
            min((n for n in left if n // EXPERTS == block), key=lambda n: use[n])
            for block in range(BLOCKS)
        ]
        assert [*order.layers[level * BLOCKS : (level + 1) * BLOCKS]] == step
        removed += step
    assert sorted(order.layers) == [*range(BLOCKS * EXPERTS)]


def test_a_block_keeps_as_many_experts_as_its_router_chooses() -> None:
    model = build_tiny("mixtral")
    assert level_range(model, "expert") == LevelRange(EXPERTS, 2, BLOCKS)
    with (
        pytest.raises(UnknownLayer, match=r"block 1 keeps 1 of its 4 experts, .* chooses 2"),
        without_experts(model, [4, 5, 7]),
    ):
        pass
    with pytest.raises(UnknownLayer, match=r"expert 16: .* 0 to 15"), without_experts(model, [16]):
        pass


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("deepseek_v4", "the router chooses by token ids"),
        ("longcat_flash", "not stacked"),
        ("inkling_text", "does not have one output for each of the 4 experts"),
        ("llama", "no experts"),
    ],
)
def test_experts_that_cannot_go_one_by_one_are_refused(model_type: str, reason: str) -> None:
    with torch.device("meta"):
        model = build_tiny(model_type)
    with pytest.raises(UnsupportedModel, match=reason):
        level_range(model, "expert")


def test_groups_of_experts_are_refused() -> None:
    model = build_tiny("deepseek_v3")
    for mixture in expert_mixtures(model):
        setattr(mixture.router, "num_group", 2)  # noqa: B010  # its type is any module
    with pytest.raises(UnsupportedModel, match="first chooses among 2 groups"):
        expert_mixtures(model)
