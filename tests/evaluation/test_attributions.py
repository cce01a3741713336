"""The rows of attributions: complete, reproducible, and no work is done twice."""

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from prunelake.errors import TaskError
from prunelake.evaluation.attributions import compute_attributions, random_scores
from prunelake.explanation_spec import Method
from prunelake.inference.nested import NestedModel
from prunelake.schema.run_tables import ATTRIBUTIONS
from prunelake.spec import Explanation
from tests.support.models.explained_prompts import (
    EXAMPLES,
    LEVELS,
    LLAMA,
    ORDER,
    TARGETS,
    encoded,
    explained,
    predictions,
    record_queries,
)


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


def test_random_scores_are_equal_at_all_levels_and_otherwise_differ() -> None:
    frame = explained(methods=("input_x_gradient",), seeds=(0, 1)).filter(method="random")
    rankings = frame.group_by("example_id", "seed").agg(pl.col("scores").unique())
    assert len(rankings) == 4
    assert rankings["scores"].list.len().to_list() == [1] * 4
    drawn = [random_scores(name, seed, 6) for name in ("test:1", "test:2") for seed in (0, 1)]
    assert all(((values >= 0) & (values < 1)).all() for values in drawn)
    assert len({values.tobytes() for values in drawn}) == 4
    assert np.array_equal(random_scores("test:1", 1, 6), drawn[1])


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


def test_a_prompt_of_one_token_is_refused() -> None:
    example = encoded("dev:8", (5,), (7,), (9,))
    with pytest.raises(TaskError, match=r"dev:8 has a prompt of 1 tokens; an explanation needs"):
        explained(examples=[example], targets={"dev:8": {0: 0}})


def test_no_masked_prompt_is_evaluated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record_queries(monkeypatch)
    methods: tuple[Method, ...] = ("difference_shap", "kernel_shap", "leverage_shap", "lime")
    explanation = Explanation(methods=methods, seeds=(0, 1))
    nested = NestedModel(LLAMA, ORDER)
    compute_attributions(nested, predictions(TARGETS), [EXAMPLES[1]], LEVELS, explanation)
    # Four tokens have 16 masks; the methods and seeds draw most of them, some repeatedly.
    scored = [
        (query.prompt, level) for queries in calls for query in queries for level in query.levels
    ]
    assert 30 < len(scored) == len({*scored}) <= 48


def test_examples_share_batches_and_keep_their_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call for all masks of the shard, and one call for each further stage of all examples."""
    methods: tuple[Method, ...] = ("difference_shap", "kernel_shap", "lime")
    calls = record_queries(monkeypatch)
    together = explained(methods=methods, seeds=(0, 1))
    assert len(calls) <= 2
    for example in EXAMPLES:
        alone = explained(examples=[example], methods=methods, seeds=(0, 1))
        own = together.filter(example_id=example.example.example_id)
        assert_frame_equal(own, alone, abs_tol=2e-3)


def test_known_cells_are_left_out_and_level_0_is_not_explained_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explanation = Explanation(methods=("difference_shap", "leverage_shap"))
    nested = NestedModel(LLAMA, ORDER)
    example, predicted = [EXAMPLES[1]], predictions(TARGETS)
    everything = compute_attributions(nested, predicted, example, LEVELS, explanation)
    calls = record_queries(monkeypatch)
    is_known = (pl.col("level") == 0) | (pl.col("method") == "leverage_shap")
    known, rest = everything.filter(is_known), everything.filter(~is_known)
    found = compute_attributions(nested, predicted, example, LEVELS, explanation, known=known)
    assert_frame_equal(found, rest, abs_tol=1e-5)
    # Level 0 is asked only about masks that it shares with other levels.
    assert all(len(query.levels) > 1 for queries in calls for query in queries)
