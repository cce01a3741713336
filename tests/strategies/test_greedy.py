from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from transformers import PreTrainedModel

from prunelake.errors import ModelError
from prunelake.inference import batches
from prunelake.models.removal import removed
from prunelake.spec import Strategy, Unit
from prunelake.strategies.greedy import greedy_order
from prunelake.strategies.importance import cosine_importance
from prunelake.strategies.removal_order import RemovalOrder, removal_order
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import Example
from tests.support.endurance import IS_ENDURANCE, repeats
from tests.support.models.tiny_models import LAYER_COUNT, VOCABULARY, family_cases, tiny_model

Damage = Callable[[PreTrainedModel], float]


def tokens(count: int, seed: int) -> tuple[int, ...]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(3, VOCABULARY, (count,), generator=draw).tolist())


WINDOWS = [tokens(12, seed) for seed in range(4)]
QUESTIONS = [
    EncodedExample(
        Example(f"train:{n}", "", ("", "", ""), 0),
        prefix=(1,),
        prompt=tokens(4 + n, n),
        token_texts=(),
        options=(tokens(1, n + 10), tokens(3, n + 20), tokens(2, n + 30)),
    )
    for n in range(5)
]


def log_probabilities(model: PreTrainedModel, ids: Sequence[int]) -> torch.Tensor:
    """The log-probability of each next token [tokens - 1], by the model's own logits."""
    steps = model(input_ids=torch.tensor([[*ids]]), use_cache=False).logits[0].double()
    chosen: torch.Tensor = steps.log_softmax(-1)[range(len(ids) - 1), list(ids[1:])]
    return chosen


@torch.inference_mode()
def loss(model: PreTrainedModel) -> float:
    return -torch.cat([log_probabilities(model, window) for window in WINDOWS]).mean().item()


@torch.inference_mode()
def shares(model: PreTrainedModel) -> list[list[float]]:
    """The model's probabilities of the options of each question."""
    found = []
    for question in QUESTIONS:
        context = (*question.prefix, *question.prompt)
        likelihoods = [
            log_probabilities(model, (*context, *option))[len(context) - 1 :].sum().exp().item()
            for option in question.options
        ]
        found.append([one / sum(likelihoods) for one in likelihoods])
    return found


def divergence_from(unpruned: list[list[float]]) -> Damage:
    return lambda model: float(np.mean(entropy(unpruned, shares(model), axis=1)))


def one_by_one(
    model: PreTrainedModel, damage: Damage, depth: int, unit: Unit = "attention"
) -> RemovalOrder:
    """The oracle: a plain loop which removes one candidate at a time."""
    order: list[int] = []
    importance = [0.0] * LAYER_COUNT
    for _ in range(depth):
        with removed(model, order, unit):
            before = damage(model)
        increase = {}
        for layer in set(range(LAYER_COUNT)) - set(order):
            with removed(model, [*order, layer], unit):
                increase[layer] = damage(model) - before
        for layer, value in increase.items():
            importance[layer] = value
        order.append(min(increase, key=increase.__getitem__))
    left = sorted(set(range(LAYER_COUNT)) - set(order), key=importance.__getitem__)
    return RemovalOrder((*order, *left), tuple(importance))


def searched(label: str, model: PreTrainedModel, depth: int | None = None) -> RemovalOrder:
    strategy = Strategy.model_validate(label)
    return removal_order(model, strategy, WINDOWS, QUESTIONS, depth)


@pytest.mark.parametrize(
    ("family", "name", "depth"),
    family_cases(*product(("loss", "divergence"), (2, 5))),
)
def test_candidates_have_the_same_importance_in_one_pass_and_alone(
    family: str, name: str, depth: int
) -> None:
    model = tiny_model(family)
    damage = loss if name == "loss" else divergence_from(shares(model))
    expected = one_by_one(model, damage, depth)
    found = searched(name, model, depth)
    assert found.layers == expected.layers
    np.testing.assert_allclose(found.importance, expected.importance, atol=1e-5, rtol=1e-4)
    assert np.ptp(found.importance) > 1e-3


# The short form has each unit and each measure once.
@pytest.mark.parametrize(
    ("name", "unit"), [*product(("loss", "divergence"), ("mlp", "block"))][:: repeats(3, 1)]
)
def test_other_units_are_searched_the_same_way(name: str, unit: Unit) -> None:
    model = tiny_model("gemma3")
    damage = loss if name == "loss" else divergence_from(shares(model))
    expected = one_by_one(model, damage, 3, unit)
    found = searched(f"{unit}:{name}", model, 3)
    assert found.layers == expected.layers
    np.testing.assert_allclose(found.importance, expected.importance, atol=1e-5, rtol=1e-4)
    assert found.importance != searched(name, model, 3).importance


@pytest.mark.parametrize(("family", "depth"), family_cases((2,), (5,)))
def test_iterative_measures_again_after_each_removal(family: str, depth: int) -> None:
    model = tiny_model(family)
    unit: Unit = "attention" if depth == 5 else "mlp" if family == "llama" else "block"
    order: list[int] = []
    importance = [0.0] * LAYER_COUNT
    for _ in range(depth):
        with removed(model, order, unit):
            measured = cosine_importance(model, WINDOWS, unit)
        left = [layer for layer in range(LAYER_COUNT) if layer not in order]
        for layer in left:
            importance[layer] = measured[layer]
        order.append(left[int(np.argmin([measured[layer] for layer in left]))])
    order += sorted(set(range(LAYER_COUNT)) - set(order), key=importance.__getitem__)
    found = searched(f"{unit}:iterative", model, depth)
    assert found == RemovalOrder(tuple(order), tuple(importance))
    assert found.forward_tokens == depth * sum(map(len, WINDOWS))


@pytest.mark.parametrize("name", ["cosine", "iterative", "loss", "divergence", "balanced"])
def test_a_layer_that_adds_nothing_is_worth_nothing(name: str) -> None:
    model = tiny_model("llama")
    model.get_parameter("model.layers.3.self_attn.o_proj.weight").zero_()
    found = searched(name, model, depth=1)
    assert found.importance[3] == pytest.approx(0, abs=1e-6)
    # A removal may improve the loss and the right answers; other measures are least at no change.
    assert (found.layers[0] == 3) is (min(found.importance) > -1e-6)
    assert name in ("loss", "balanced") or found.layers[0] == 3


@pytest.mark.parametrize("depth", [0, 1, 3, 5, 9] if IS_ENDURANCE else [0, 3, 9])
def test_the_first_layers_of_an_order_do_not_depend_on_how_deep_it_goes(depth: int) -> None:
    model = tiny_model("qwen3")
    for name in ("iterative", "loss", "divergence", "balanced"):
        whole, part = searched(name, model), searched(name, model, depth)
        assert part.layers[:depth] == whole.layers[:depth]
        assert sorted(part.layers) == [*range(LAYER_COUNT)]
        assert [part.importance[n] for n in part.layers[:depth]] == pytest.approx(
            [whole.importance[n] for n in whole.layers[:depth]]
        )


def test_a_search_counts_the_tokens_through_the_model() -> None:
    found = searched("loss", tiny_model("llama"), 3)
    # 11 tokens of each window are read. The base goes through all blocks, a candidate only through
    # the blocks from its own layer on.
    length, passes = sum(len(window) - 1 for window in WINDOWS), 0
    for step in range(3):
        left = set(range(LAYER_COUNT)) - {*found.layers[:step]}
        passes += LAYER_COUNT + sum(LAYER_COUNT - layer for layer in left)
    assert found.forward_tokens == pytest.approx(length * passes / LAYER_COUNT)


@pytest.mark.parametrize("budget", [1, 60, 10_000])
@pytest.mark.parametrize("name", ["loss", "divergence", "balanced"])
def test_an_order_does_not_depend_on_how_much_runs_together(
    name: str, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gemma3")
    expected = searched(name, model)
    monkeypatch.setattr(batches, "CPU_BATCH_TOKENS", budget)
    found = searched(name, model)
    assert found.layers == expected.layers
    np.testing.assert_allclose(found.importance, expected.importance, atol=1e-5, rtol=1e-4)


def worths(*steps: Mapping[int, float]) -> Callable[[tuple[int, ...]], Mapping[int, float]]:
    return lambda gone: steps[len(gone)]


def test_of_equals_the_layer_nearer_to_the_input_goes_first() -> None:
    measure = worths({0: 1, 1: 0, 2: 0, 3: 2}, {0: 5, 2: 4, 3: 4}, {0: 1, 3: 1})
    assert greedy_order(4, 3, measure) == ((1, 2, 0, 3), (1, 0, 4, 1))


def test_remaining_layers_follow_by_their_importance_in_the_last_step() -> None:
    measure = worths({0: 3, 1: 2, 2: 1, 3: 0}, {0: 1, 1: 1, 2: 0.5})
    assert greedy_order(4, 2, measure) == ((3, 2, 0, 1), (1, 1, 0.5, 0))


def test_numbers_that_overflow_are_an_error() -> None:
    with pytest.raises(ModelError, match=r"without attention layers \[1\].*overflow"):
        greedy_order(3, 3, worths({0: 1, 1: 0, 2: 1}, {0: float("nan"), 2: 1}))


def test_a_search_reports_its_progress() -> None:
    seen: list[tuple[int, int]] = []
    removal_order(
        tiny_model("llama"),
        Strategy(name="iterative"),
        WINDOWS,
        depth=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
