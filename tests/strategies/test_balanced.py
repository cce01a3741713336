from collections.abc import Callable, Collection, Sequence

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from transformers import PreTrainedModel

from prunelake.errors import TaskError
from prunelake.evaluation.predictions import predict
from prunelake.inference.level_masks import LevelMasks
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.removal import removed
from prunelake.spec import Calibration, Strategy, Unit
from prunelake.strategies import balanced as balanced_module
from prunelake.strategies.balanced import balanced_increase, masked_contexts
from prunelake.strategies.greedy import damage_increase
from prunelake.strategies.removal_order import RemovalOrder, removal_order
from prunelake.strategy_spec import DEFAULT_SEARCH_ROWS
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import Example
from tests.support.endurance import IS_ENDURANCE
from tests.support.models.tiny_models import FAMILIES, LAYER_COUNT, VOCABULARY, tiny_model


def question(number: int, prompt: int, options: Sequence[int], gold: int) -> EncodedExample:
    """A question whose prompt and options have these lengths in tokens."""
    draw = torch.Generator().manual_seed(number)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, VOCABULARY, (count,), generator=draw).tolist())

    texts = ("a",) * len(options)
    example = Example(f"train:{number}", "", texts, gold)
    own = tuple(tokens(count) for count in options)
    return EncodedExample(example, (1,), tokens(prompt), texts, own)


QUESTIONS = [
    question(0, 5, (1, 3, 2), 0),
    question(1, 4, (2, 1), 1),
    question(2, 1, (1, 1, 2, 1), 3),  # too short for a mask
    question(3, 9, (2, 2, 1), 2),
    question(4, 2, (1, 1), 0),
]


@torch.inference_mode()
def log_likelihood(model: PreTrainedModel, context: Sequence[int], option: Sequence[int]) -> float:
    ids = torch.tensor([[*context, *option]])
    steps = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    chosen = steps[range(len(context) - 1, len(ids[0]) - 1), list(option)]
    return float(chosen.sum())


def answers(model: PreTrainedModel) -> list[list[float]]:
    return [
        [log_likelihood(model, (*q.prefix, *q.prompt), option) for option in q.options]
        for q in QUESTIONS
    ]


def responses(
    model: PreTrainedModel, predicted: Sequence[int], whole: Sequence[Sequence[float]]
) -> list[float]:
    return [
        log_likelihood(model, context, q.options[predicted[n]]) - whole[n][predicted[n]]
        for n, q in enumerate(QUESTIONS)
        for context in masked_contexts(q)
    ]


def damage_of(model: PreTrainedModel) -> Callable[[PreTrainedModel], float]:
    """The damage to accuracy, calibration and explanations, one row and one mask at a time."""
    whole = answers(model)
    predicted = [int(np.argmax(answer)) for answer in whole]
    before = responses(model, predicted, whole)

    def scores(found: list[list[float]]) -> tuple[float, float]:
        shares = [np.exp(answer) / np.exp(answer).sum() for answer in map(np.array, found)]
        right = [p[q.example.gold] for p, q in zip(shares, QUESTIONS, strict=True)]
        brier = [
            # scikit-learn halves the score if there are two options.
            brier_score_loss([q.example.gold], [p], labels=range(len(p)), scale_by_half=False)
            for p, q in zip(shares, QUESTIONS, strict=True)
        ]
        return float(np.mean(right)), float(np.mean(brier))

    right, brier = scores(whole)
    stake = np.mean([(len(q.options) - 1) / len(q.options) for q in QUESTIONS])

    def damage(pruned: PreTrainedModel) -> float:
        found = answers(pruned)
        own_right, own_brier = scores(found)
        after = responses(pruned, predicted, found)
        moved = sum(abs(a - b) for a, b in zip(after, before, strict=True))
        drift = moved / sum(map(abs, before))
        return float(np.mean([(right - own_right) / stake, (own_brier - brier) / stake, drift]))

    assert damage(model) == 0
    return damage


def one_by_one(model: PreTrainedModel, depth: int, unit: Unit, breadth: int) -> RemovalOrder:
    """The oracle: a plain loop which removes one candidate at a time."""
    damage = damage_of(model)
    order: list[int] = []
    importance: dict[int, float] = {}
    for _ in range(depth):
        left = sorted(set(range(LAYER_COUNT)) - {*order})
        if importance:
            left = sorted(left, key=importance.__getitem__)[:breadth]
        with removed(model, order, unit):
            before = damage(model)
        for layer in left:
            with removed(model, [*order, layer], unit):
                importance[layer] = damage(model) - before
        order.append(min(left, key=importance.__getitem__))
    order += sorted(set(range(LAYER_COUNT)) - {*order}, key=importance.__getitem__)
    return RemovalOrder(tuple(order), tuple(importance[n] for n in range(LAYER_COUNT)))


@pytest.mark.parametrize(
    ("family", "unit", "breadth"),
    [
        *((family, "attention", 10) for family in (FAMILIES if IS_ENDURANCE else ("gemma3",))),
        ("llama", "attention", 2),
        ("gemma3", "mlp", 3),
        ("gpt_neox", "block", 2),
    ],
)
def test_candidates_have_the_same_importance_in_one_pass_and_alone(
    family: str, unit: Unit, breadth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balanced_module, "CANDIDATES_PER_STEP", breadth)
    model = tiny_model(family)
    expected = one_by_one(model, 3, unit, breadth)
    found = removal_order(model, Strategy(name="balanced", unit=unit), (), QUESTIONS, 3)
    assert found.layers == expected.layers
    np.testing.assert_allclose(found.importance, expected.importance, atol=1e-5, rtol=1e-4)
    assert np.ptp(found.importance) > 1e-3


def test_the_first_step_measures_all_and_the_others_the_least() -> None:
    searched: list[LevelMasks] = []

    class Recording(NestedModel):
        def masks_without(self, removed: Sequence[Collection[int]]) -> LevelMasks:
            searched.append(super().masks_without(removed))
            return searched[-1]

    nested = Recording(tiny_model("llama"), ())
    asked = [ScoringQuery((5, 6, 7), ((8,),), (0,))]
    costs = np.array([3.0, 1, 4, 0, 2])
    candidates: list[list[int]] = []

    def damage(answers: Sequence[object]) -> np.ndarray:
        assert len(answers) == 1
        lacked = [
            {n for n in range(LAYER_COUNT) if level not in searched[-1].levels_keeping[n]}
            for level in range(searched[-1].level_count)
        ]
        candidates.append(sorted(max(own - lacked[0]) for own in lacked[1:]))
        return np.array([costs[[*own]].sum() for own in lacked])

    measure = damage_increase(nested, asked, damage, breadth=2)
    assert measure(()) == dict(enumerate(costs))
    assert measure((3,)) == {1: 1, 4: 2}
    costs[1] = 9
    assert measure((3, 4)) == {0: 3, 1: 9}
    assert measure((3, 4, 0)) == {1: 9, 2: 4}
    assert candidates == [[0, 1, 2, 3, 4], [1, 4], [0, 1], [1, 2]]


@pytest.mark.parametrize("example", [QUESTIONS[0], QUESTIONS[4]])
def test_two_masks_keep_each_token_once(example: EncodedExample) -> None:
    first, second = (np.array(context[1:]) for context in masked_contexts(example))
    prompt = np.array(example.prompt)
    assert ((first == prompt) ^ (second == prompt)).all()
    assert (np.where(first == prompt, second, first) == 0).all()  # the paper's baseline token
    assert (first == prompt).sum() == -(-len(prompt) // 2)
    assert all(context[:1] == example.prefix for context in masked_contexts(example))


def test_masks_are_drawn_by_the_example() -> None:
    twins = [question(n, 12, (1, 1), 0) for n in range(6)]
    kept = {
        tuple(a == b for a, b in zip(twin.prompt, masked_contexts(twin)[0][1:], strict=True))
        for twin in twins
    }
    assert len(kept) > 3


def test_a_search_reports_prompts_that_are_too_short_for_a_mask() -> None:
    with pytest.raises(TaskError, match="every prompt of its search rows has fewer than two"):
        balanced_increase(NestedModel(tiny_model("llama"), ()), QUESTIONS[2:3])


def test_a_search_costs_at_most_eight_times_an_order_by_cosine_and_its_evaluation() -> None:
    # A fifth of the default sweep of 100 rows, so that this is quick: up to half of 30 layers, 20
    # evaluated rows and 4 search rows.
    model = tiny_model("llama", num_hidden_layers=30)
    drawn = np.random.default_rng(0)
    examples = [
        question(n, int(drawn.integers(20, 60)), drawn.integers(1, 8, 4).tolist(), 0)
        for n in range(100 // 5 + DEFAULT_SEARCH_ROWS // 5)
    ]
    calibration = Calibration()
    window = question(0, calibration.windows * calibration.window_tokens // 5, (), 0).prompt
    cosine = removal_order(model, Strategy(), [window])
    evaluated = NestedModel(model, cosine.layers)
    predict(evaluated, "run", examples[:20], tuple(range(16)))
    found = removal_order(model, Strategy(name="balanced"), (), examples[20:], 15)
    assert found.forward_tokens <= 8 * (cosine.forward_tokens + evaluated.forward_tokens)
