import copy
from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from captum.attr import InputXGradient, KernelShap, Lime
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.errors import TaskError
from prunelake.evaluation import attributions as module
from prunelake.evaluation.attributions import compute_attributions, random_scores
from prunelake.evaluation.captum_methods import draw_masks
from prunelake.explanation_spec import Method
from prunelake.inference.branches import Branches
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import PrefixTree, ScoringQuery
from prunelake.models.removal import removed
from prunelake.schema.run_tables import ATTRIBUTIONS
from prunelake.spec import Explanation
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import Example
from tests.support.models.tiny_models import tiny_model

ORDER = (3, 0, 4, 1, 2)
LEVELS = (0, 2, 5)
LLAMA = tiny_model("llama")


def encoded(name: str, prompt: tuple[int, ...], *options: tuple[int, ...]) -> EncodedExample:
    example = Example(name, "", tuple(" x" for _ in options), 0)
    return EncodedExample(example, (1,), prompt, tuple("x" for _ in prompt), options)


EXAMPLES = [
    encoded("test:4", (11, 52, 33, 74, 25, 96), (7, 8), (9,), (20, 21, 22)),
    encoded("test:2", (61, 12, 83, 64), (7,), (9, 10)),
]
# The levels disagree about the first example.
TARGETS = {"test:4": {0: 1, 2: 0, 5: 2}, "test:2": {0: 1, 2: 1, 5: 1}}


def predictions(targets: dict[str, dict[int, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        {"run_id": "r", "level": level, "example_id": name, "prediction": target}
        for name, own in targets.items()
        for level, target in own.items()
    )


def explained(
    model: PreTrainedModel = LLAMA,
    examples: list[EncodedExample] = EXAMPLES,
    targets: dict[str, dict[int, int]] = TARGETS,
    **explanation: Any,
) -> pl.DataFrame:
    levels = tuple(targets[examples[0].example.example_id])
    nested = NestedModel(model, ORDER)
    return compute_attributions(
        nested, predictions(targets), examples, levels, Explanation(**explanation)
    )


def scores(frame: pl.DataFrame, **keys: Any) -> NDArray[np.float64]:
    return np.array(frame.filter(**keys)["scores"].item(), dtype=float)


def log_likelihood(
    model: PreTrainedModel, level: int, prompt: tuple[int, ...], option: tuple[int, ...]
) -> float:
    """The oracle: one plain pass after the prefix token 1."""
    with removed(model, ORDER[:level]), torch.inference_mode():
        logits = model(input_ids=torch.tensor([[1, *prompt, *option]]), use_cache=False).logits[0]
    steps = logits.double().log_softmax(-1)[len(prompt) :]
    return float(sum(steps[n, token].item() for n, token in enumerate(option)))


def masked(prompt: tuple[int, ...], present: Any, baseline: int) -> tuple[int, ...]:
    return tuple(t if p else baseline for t, p in zip(prompt, present, strict=True))


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
    asked: list[ScoringQuery] = []
    answer = NestedModel.log_likelihoods

    def counted(
        model: NestedModel, queries: Sequence[ScoringQuery], *_: Any
    ) -> list[NDArray[np.float64]]:
        asked.extend(queries)
        return answer(model, queries)

    monkeypatch.setattr(NestedModel, "log_likelihoods", counted)
    prompt, options = EXAMPLES[0].prompt[:length], EXAMPLES[0].options
    example = encoded("test:4", prompt, *options)
    frame = explained(examples=[example], methods=("leverage_shap",), baseline_token=3)
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


def test_difference_shap_asks_a_level_about_few_of_the_masks_of_level_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """6 tokens: 42 masks at level 0, and 4 or 8 at other levels."""
    asked: dict[int, set[tuple[int, ...]]] = {}
    answer = NestedModel.log_likelihoods

    def counted(
        model: NestedModel, queries: Sequence[ScoringQuery], *_: Any
    ) -> list[NDArray[np.float64]]:
        for query in queries:
            for level in query.levels:
                assert query.prompt not in asked.setdefault(level, set())
                asked[level].add(query.prompt)
        return answer(model, queries)

    monkeypatch.setattr(NestedModel, "log_likelihoods", counted)
    explained(examples=EXAMPLES[:1], methods=("difference_shap",))
    assert len(asked[0]) == 42
    for level in (2, 5):
        assert len(asked[level]) in (4, 8)
        assert asked[level] < asked[0]


def test_leverage_shap_draws_different_masks_for_each_example() -> None:
    twins = [encoded(name, EXAMPLES[0].prompt, (7, 8), (9,)) for name in ("test:1", "test:2")]
    targets = {"test:1": {0: 1}, "test:2": {0: 1}}
    frame = explained(examples=twins, targets=targets, methods=("leverage_shap",))
    one, other = frame.filter(method="leverage_shap")["scores"].to_list()
    assert np.abs(np.subtract(one, other)).max() > 0.01


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("level", LEVELS)
def test_input_x_gradient_is_the_slope_of_scaling_an_embedding(family: str, level: int) -> None:
    model, example = tiny_model(family), EXAMPLES[0]
    option = example.options[2]
    frame = explained(model, [example], {"test:4": {level: 2}}, methods=("input_x_gradient",))
    exact = copy.deepcopy(model).double()
    ids = torch.tensor([[*example.prefix, *example.prompt, *option[:-1]]])
    start = len(example.prefix) + len(example.prompt) - 1

    def scaled(place: int, factor: float) -> float:
        embeddings = exact.get_input_embeddings()(ids).clone()
        embeddings[:, place] *= factor
        with removed(exact, ORDER[:level]), torch.inference_mode():
            logits = exact(inputs_embeds=embeddings, use_cache=False).logits[0]
        steps = logits.double().log_softmax(-1)[start:]
        return float(sum(steps[n, token].item() for n, token in enumerate(option)))

    # Differences of fourth order; at this step, float32 norms leave an error of about 1e-4.
    step, weights = 0.01, {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    slopes = [
        sum(weight * scaled(place, 1 + n * step) for n, weight in weights.items()) / step
        for place in range(1, 1 + len(example.prompt))
    ]
    got = scores(frame, method="input_x_gradient")
    assert np.abs(slopes).max() > 0.1
    np.testing.assert_allclose(got, slopes, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_batched_gradients_equal_captum_at_each_level(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example = tiny_model(family), EXAMPLES[0]
    nested = NestedModel(model, ORDER)
    batches: list[int] = []
    run = nested.run_batch

    def counted(rows: Sequence[PrefixTree], inputs: dict[str, Tensor]) -> tuple[Tensor, Branches]:
        batches.append(len(rows))
        return run(rows, inputs)

    monkeypatch.setattr(nested, "run_batch", counted)
    explanation = Explanation(methods=("input_x_gradient",))
    frame = compute_attributions(nested, predictions(TARGETS), [example], LEVELS, explanation)
    assert batches == [3]  # a row for each level, although levels explain different options
    for level, target in TARGETS["test:4"].items():
        option = example.options[target]
        ids = torch.tensor([[*example.prefix, *example.prompt, *option[:-1]]])
        start = len(example.prefix) + len(example.prompt) - 1

        def log_likelihood(
            embeddings: Tensor, start: int = start, option: tuple[int, ...] = option
        ) -> Tensor:
            logits = model(inputs_embeds=embeddings, use_cache=False).logits
            steps = logits[:, start:].log_softmax(-1)
            effect: Tensor = steps[:, range(len(option)), option].sum(-1)
            return effect

        embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
        with removed(model, ORDER[:level]):
            product = InputXGradient(log_likelihood).attribute(embeddings)
        wanted = product[0, len(example.prefix) : start + 1].sum(-1).detach().double().numpy()
        got = scores(frame, level=level, method="input_x_gradient")
        np.testing.assert_allclose(got, wanted, atol=1e-6, rtol=1e-4)


def test_no_masked_prompt_is_evaluated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    nested = NestedModel(LLAMA, ORDER)
    asked: list[ScoringQuery] = []
    answer = nested.log_likelihoods

    def recorded(queries: Sequence[ScoringQuery], *_: Any) -> list[NDArray[np.float64]]:
        asked.extend(queries)
        return answer(queries)

    monkeypatch.setattr(nested, "log_likelihoods", recorded)
    methods: tuple[Method, ...] = ("difference_shap", "kernel_shap", "leverage_shap", "lime")
    explanation = Explanation(methods=methods, seeds=(0, 1))
    compute_attributions(nested, predictions(TARGETS), [EXAMPLES[1]], LEVELS, explanation)
    # Four tokens have 16 masks; the methods and seeds draw most of them, some repeatedly.
    scored = [(query.prompt, level) for query in asked for level in query.levels]
    assert 30 < len(scored) == len({*scored}) <= 48


def test_known_cells_are_left_out_and_level_0_is_not_explained_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explanation = Explanation(methods=("difference_shap", "leverage_shap"))
    nested = NestedModel(LLAMA, ORDER)
    example, predicted = [EXAMPLES[1]], predictions(TARGETS)
    everything = compute_attributions(nested, predicted, example, LEVELS, explanation)
    asked: list[ScoringQuery] = []
    answer = nested.log_likelihoods

    def recorded(queries: Sequence[ScoringQuery], *_: Any) -> list[NDArray[np.float64]]:
        asked.extend(queries)
        return answer(queries)

    monkeypatch.setattr(nested, "log_likelihoods", recorded)
    is_known = (pl.col("level") == 0) | (pl.col("method") == "leverage_shap")
    known, rest = everything.filter(is_known), everything.filter(~is_known)
    found = compute_attributions(nested, predicted, example, LEVELS, explanation, known=known)
    assert_frame_equal(found, rest, abs_tol=1e-5)
    # Level 0 is asked only about masks that it shares with other levels.
    assert all(len(query.levels) > 1 for query in asked)


def test_attributions_neither_use_nor_change_the_global_random_state() -> None:
    methods = ("difference_shap", "kernel_shap", "leverage_shap", "lime", "input_x_gradient")
    torch.manual_seed(1)
    np.random.seed(1)  # scikit-learn draws from it, but LIME's lasso makes no random choice
    first = explained(methods=methods)
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.get_rng_state()
    assert explained(methods=methods).equals(first)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_scores_are_equal_at_all_levels_and_otherwise_differ() -> None:
    frame = explained(methods=("input_x_gradient",), seeds=(0, 1)).filter(method="random")
    rankings = frame.group_by("example_id", "seed").agg(pl.col("scores").unique())
    assert len(rankings) == 4
    assert rankings["scores"].list.len().to_list() == [1] * 4
    drawn = [random_scores(name, seed, 6) for name in ("test:1", "test:2") for seed in (0, 1)]
    assert all(((values >= 0) & (values < 1)).all() for values in drawn)
    assert len({values.tobytes() for values in drawn}) == 4
    assert np.array_equal(random_scores("test:1", 1, 6), drawn[1])


def test_rows_are_complete() -> None:
    methods = ("difference_shap", "kernel_shap", "leverage_shap", "input_x_gradient")
    frame = explained(methods=methods, seeds=(4, 2))
    assert frame.schema == ATTRIBUTIONS.schema
    expected = {
        (level, name, method, seed, TARGETS[name][level])
        for level in LEVELS
        for name in TARGETS
        for method, seeds in (
            ("difference_shap", (2, 4)),
            ("kernel_shap", (2, 4)),
            ("leverage_shap", (2, 4)),
            ("input_x_gradient", (0,)),
            ("random", (2, 4)),
        )
        for seed in seeds
    }
    rows = frame.select("level", "example_id", "method", "seed", "target").rows()
    assert len(rows) == len(expected)
    assert set(rows) == expected
    assert frame["level"].is_sorted()
    lengths = {e.example.example_id: len(e.prompt) for e in EXAMPLES}
    assert all(len(row["scores"]) == lengths[row["example_id"]] for row in frame.to_dicts())


def test_a_prompt_of_one_token_is_refused() -> None:
    example = encoded("dev:8", (5,), (7,), (9,))
    with pytest.raises(TaskError, match=r"dev:8 has a prompt of 1 tokens; an explanation needs"):
        explained(examples=[example], targets={"dev:8": {0: 0}})


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


def test_examples_share_batches_and_keep_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for all masks of the shard, and one call for each further stage of all examples."""
    calls: list[int] = []
    answer = NestedModel.log_likelihoods

    def counted(
        model: NestedModel, queries: Sequence[ScoringQuery], *_: Any
    ) -> list[NDArray[np.float64]]:
        calls.append(len(queries))
        return answer(model, queries)

    methods: tuple[Method, ...] = ("difference_shap", "kernel_shap", "lime")
    monkeypatch.setattr(NestedModel, "log_likelihoods", counted)
    together = explained(methods=methods, seeds=(0, 1))
    assert len(calls) <= 2
    for example in EXAMPLES:
        alone = explained(examples=[example], methods=methods, seeds=(0, 1))
        own = together.filter(example_id=example.example.example_id)
        assert_frame_equal(own, alone, abs_tol=2e-3)
