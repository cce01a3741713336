"""LIME and Shapley values by sampling, against captum and exact enumeration."""

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from captum.attr import KernelShap, Lime
from numpy.typing import NDArray
from torch import Tensor

from prunelake.evaluation import attributions as module
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.captum_methods import draw_masks
from prunelake.explanation_spec import Method
from prunelake.inference.nested import NestedModel
from prunelake.spec import Explanation
from prunelake.tasks.encoding import EncodedExample
from tests.support.models.explained_prompts import (
    EXAMPLES,
    LEVELS,
    LLAMA,
    ORDER,
    TARGETS,
    encoded,
    explained,
    log_likelihood,
    masked,
    predictions,
    record_queries,
    scores,
)


def effect_of(level: int, prompt: tuple[int, ...], option: tuple[int, ...]) -> Any:
    """The function that captum explains: masks [1, tokens] to the log-likelihood of an option."""

    def effect(mask: Tensor) -> Tensor:
        changed = masked(prompt, mask[0].tolist(), 3)
        return torch.tensor([log_likelihood(LLAMA, level, changed, option)]).float()

    return effect


@pytest.mark.parametrize(("method", "captums"), [("kernel_shap", KernelShap), ("lime", Lime)])
@pytest.mark.parametrize("seed", [0, 5])
def test_sampling_methods_equal_captum_at_each_level(method: str, captums: Any, seed: int) -> None:
    frame = explained(methods=(method,), seeds=(seed,), baseline_token=3)
    largest = 0.0
    for example in EXAMPLES:
        name, prompt = example.example.example_id, example.prompt
        for level, target in TARGETS[name].items():
            torch.manual_seed(seed)
            expected = captums(effect_of(level, prompt, example.options[target])).attribute(
                torch.ones(1, len(prompt)), n_samples=3 * len(prompt), perturbations_per_eval=1
            )
            got = scores(frame, method=method, level=level, example_id=name)
            # The weights of 1e6 on captum's end points magnify the rounding of float32.
            np.testing.assert_allclose(got, expected[0], atol=2e-3)
            largest = max(largest, np.abs(got).max())
    assert largest > 0.1


@pytest.mark.parametrize(("method", "captums"), [("kernel_shap", KernelShap), ("lime", Lime)])
@pytest.mark.parametrize("token_count", [2, 5, 17])
def test_masks_that_are_drawn_once_give_the_scores_of_captum_in_every_bit(
    method: str, captums: Any, token_count: int
) -> None:
    weights = torch.randn(token_count, generator=torch.Generator().manual_seed(3))

    def effect(masks: Tensor) -> Tensor:
        return (masks @ weights).sin()

    count = 3 * token_count
    torch.manual_seed(7)
    expected = captums(effect).attribute(
        torch.ones(1, token_count), n_samples=count, perturbations_per_eval=count
    )
    draw = draw_masks(method, 7, token_count, count)
    assert draw_masks(method, 7, token_count, count) is draw
    values = effect(torch.from_numpy(draw.masks).float()).double().numpy()
    np.testing.assert_array_equal(draw.fit(values), expected[0].double().numpy())


def shapley_values(example: EncodedExample, level: int, target: int) -> NDArray[np.float64]:
    """The definition: the mean gain from adding a token to coalitions; all sizes weigh the same."""
    count, option = len(example.prompt), example.options[target]
    value = {
        coalition: log_likelihood(
            LLAMA, level, masked(example.prompt, [i in coalition for i in range(count)], 0), option
        )
        for size in range(count + 1)
        for coalition in combinations(range(count), size)
    }
    exact = np.zeros(count)
    for coalition, worth in value.items():
        for player in set(range(count)) - set(coalition):
            joined = tuple(sorted((*coalition, player)))
            exact[player] += (value[joined] - worth) / count / comb(count - 1, len(coalition))
    assert exact.sum() == pytest.approx(value[tuple(range(count))] - value[()])
    return exact


def test_kernel_shap_approaches_the_shapley_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """6 tokens have 62 proper coalitions; each comes up about 10 to 250 times in 3000 samples.

    The error of the estimate is sampling noise: about 1 / sqrt(3000) = 2 % of the part that no
    additive function can explain, and this part is not larger than the largest Shapley values.
    """
    monkeypatch.setattr(module, "SAMPLES_PER_TOKEN", 500)
    exact = shapley_values(EXAMPLES[0], 2, 1)
    frame = explained(examples=EXAMPLES[:1], targets={"test:4": {2: 1}}, methods=("kernel_shap",))
    got = scores(frame, method="kernel_shap")
    np.testing.assert_allclose(got, exact, atol=0.1 * np.abs(exact).max())
    assert np.ptp(exact) > np.abs(exact).max()


def test_with_all_masks_the_scores_are_the_shapley_values() -> None:
    """11 masks for each token exceed the number of coalitions: 66 masks for 64, and 44 for 16."""
    methods = ("leverage_shap", "difference_shap")
    frame = explained(
        methods=methods, leverage_samples=11, unpruned_samples=11, difference_samples=(11,)
    )
    for example in EXAMPLES:
        name = example.example.example_id
        for level, target in TARGETS[name].items():
            expected = shapley_values(example, level, target)
            assert np.ptp(expected) > 0.1
            for method in methods:
                got = scores(frame, method=method, level=level, example_id=name)
                np.testing.assert_allclose(got, expected, atol=1e-4)


def test_leverage_shap_with_half_of_the_masks_is_close_to_the_shapley_values() -> None:
    exact = shapley_values(EXAMPLES[0], 2, 1)
    frame = explained(
        examples=EXAMPLES[:1],
        targets={"test:4": {2: 1}},
        methods=("leverage_shap",),
        leverage_samples=32 / 6,
        seeds=tuple(range(20)),
    ).filter(method="leverage_shap")
    errors = np.array(frame["scores"].to_list()) - exact
    spread = ((exact - exact.mean()) ** 2).sum()
    assert 0 < (errors**2).sum(axis=1).mean() < 0.2 * spread


@pytest.mark.parametrize(("length", "masks"), [(2, 4), (3, 4), (4, 6), (6, 8)])
def test_leverage_shap_uses_the_same_masks_at_all_levels(
    length: int, masks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.5 masks for each token (half as many as the paper), rounded down to pairs; at least one."""
    calls = record_queries(monkeypatch)
    prompt, options = EXAMPLES[0].prompt[:length], EXAMPLES[0].options
    example = encoded("test:4", prompt, *options)
    frame = explained(examples=[example], methods=("leverage_shap",), baseline_token=3)
    asked = [query for queries in calls for query in queries]
    assert len({query.prompt for query in asked}) == len(asked) == masks
    assert {query.levels for query in asked} == {LEVELS}
    assert {(1, *prompt), (1, *[3] * length)} <= {query.prompt for query in asked}
    assert all(set(query.prompt[1:]) <= {3, *prompt} for query in asked)
    for level, target in TARGETS["test:4"].items():
        full, empty = (
            log_likelihood(LLAMA, level, ids, options[target]) for ids in (prompt, (3,) * length)
        )
        got = scores(frame, method="leverage_shap", level=level)
        assert got.sum() == pytest.approx(full - empty, abs=1e-4)
        assert np.abs(got).max() > 0.01


def test_leverage_shap_draws_different_masks_for_each_example() -> None:
    twins = [encoded(name, EXAMPLES[0].prompt, (7, 8), (9,)) for name in ("test:1", "test:2")]
    targets = {"test:1": {0: 1}, "test:2": {0: 1}}
    frame = explained(examples=twins, targets=targets, methods=("leverage_shap",))
    one, other = frame.filter(method="leverage_shap")["scores"].to_list()
    assert np.abs(np.subtract(one, other)).max() > 0.01


def test_difference_shap_asks_a_level_about_few_of_the_masks_of_level_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """6 tokens: 42 masks at level 0, and 4 or 8 at other levels."""
    calls = record_queries(monkeypatch)
    explained(examples=EXAMPLES[:1], methods=("difference_shap",))
    asked: dict[int, set[tuple[int, ...]]] = {}
    for query in (query for queries in calls for query in queries):
        for level in query.levels:
            assert query.prompt not in asked.setdefault(level, set())
            asked[level].add(query.prompt)
    assert len(asked[0]) == 42
    for level in (2, 5):
        assert len(asked[level]) in (4, 8)
        assert asked[level] < asked[0]


@pytest.mark.parametrize("method", ["leverage_shap", "difference_shap"])
def test_scores_are_independent_of_batches_levels_and_other_examples(method: Method) -> None:
    def explain(budget: int, examples: list[EncodedExample], *levels: int) -> pl.DataFrame:
        frame = compute_attributions(
            NestedModel(LLAMA, ORDER, token_budget=budget),
            predictions(TARGETS),
            examples,
            levels,
            Explanation(methods=(method,), seeds=(3, 4)),
        )
        return frame.filter(level=5, method=method, example_id="test:4")

    together = np.array(explain(4096, EXAMPLES, *LEVELS)["scores"].to_list())
    alone = np.array(explain(1, EXAMPLES[:1], 5)["scores"].to_list())
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.01
