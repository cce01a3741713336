"""Shapes of batches on a GPU: doubles stand for the GPU, and the shapes are counted."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prunelake.inference import batches as module
from prunelake.inference.batches import TokenBudget, batches, max_logit_rows, row_lengths
from prunelake.inference.lengths import CPU_LENGTHS, GPU_LENGTHS, RowLengths
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery, build_trees
from tests.support.models.tiny_models import tiny_model

ORDER = (3, 0, 4, 1, 2)


TASK_LENGTHS = {
    "arc_challenge": ((36, 59, 19, 40), (6, 5, 8, 4)),
    "arc_easy": ((44, 28, 41, 35), (3, 4, 2, 5)),
    "boolq": ((51, 112, 94, 87), (1, 1)),
    "openbookqa": ((6, 11, 9, 20), (5, 3, 4, 6)),
    "rotten_tomatoes": ((35, 27, 40, 31), (1, 1)),
    "rte": ((73, 145, 25, 52), (1, 1)),
    "sst2": ((42, 44, 40, 37), (1, 1)),
    "tweet_eval": ((59, 42, 37, 43), (1, 1, 1)),
}
"""Tokens of the prompts of a shard, and of their options, as SmolLM2's tokenizer makes them."""


def shard_queries(task: str) -> list[list[ScoringQuery]]:
    """Masked prompts at 17 levels, and deletions at some: as of two methods and two seeds."""
    draw = random.Random(task)
    lengths, option_lengths = TASK_LENGTHS[task]
    masked, deleted = [], []
    for length in lengths:
        prompt = [draw.randrange(3, 50_000) for _ in range(length)]
        options = tuple(tuple(draw.choices(range(50_000), k=n)) for n in option_lengths)
        for _ in range(4 * 3 * length):
            kept = tuple(token if draw.random() < 0.5 else 0 for token in prompt)
            masked.append(ScoringQuery(kept, options[:1], (*range(17),)))
        for level in range(17):
            for fraction in (0.1, 0.2, 0.3, 0.4, 0.5):
                for share in (fraction, 1 - fraction):
                    places = sorted(draw.sample(range(length), max(1, int(share * length))))
                    kept = tuple(prompt[place] for place in places)
                    deleted.append(ScoringQuery(kept, options, (level,)))
    return [masked, deleted]


@pytest.mark.parametrize("task", TASK_LENGTHS)
def test_a_shard_on_a_gpu_has_little_padding_and_few_lengths(task: str) -> None:
    used = padded = 0
    seen = set()
    for asked in shard_queries(task):
        rows = [row for row, _ in build_trees(asked, 4096, GPU_LENGTHS)]
        used += sum(len(row.tokens) * len(row.levels) for row in rows)
        for numbers in batches(rows, TokenBudget(2**17), GPU_LENGTHS):
            length = GPU_LENGTHS.padded(max(len(rows[n].tokens) for n in numbers))
            padded += length * sum(len(rows[n].levels) for n in numbers)
            seen.add(length)
    assert padded <= used / 0.95
    assert {length % 8 for length in seen} == {0}
    assert all(length % 16 == 0 for length in seen if length > 32)
    assert len(seen) <= 15


def answers(
    asked: list[ScoringQuery], lengths: RowLengths, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[NDArray[np.float64]], set[tuple[int, ...]]]:
    """The answers, and the shapes that attention sees."""
    shapes = set()
    attend = torch.nn.functional.scaled_dot_product_attention

    def noting(query: torch.Tensor, *arguments: object, **named: object) -> torch.Tensor:
        shapes.add(tuple(query.shape))
        return attend(query, *arguments, **named)  # type: ignore[arg-type]  # as they came

    with monkeypatch.context() as patched:
        patched.setattr("prunelake.inference.nested.row_lengths", lambda _: lengths)
        nested = NestedModel(tiny_model("llama"), ORDER, 512)
        patched.setattr("torch.nn.functional.scaled_dot_product_attention", noting)
        return nested.log_likelihoods(asked), shapes


def test_lengths_of_a_gpu_change_no_answer_and_make_few_shapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(0)
    asked = [
        ScoringQuery((*draw.choices(range(3, 97), k=n),), ((5, 6), (7,)), (0, 2, 5))
        for n in range(20, 90, 2)
    ]
    exact, many = answers(asked, replace(CPU_LENGTHS, max_tree_tokens=0), monkeypatch)
    stepped, few = answers(asked, replace(GPU_LENGTHS, max_tree_tokens=0), monkeypatch)
    trees, _ = answers(asked, replace(GPU_LENGTHS, max_tree_tokens=96), monkeypatch)
    for one, other, third in zip(stepped, exact, trees, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-6)
        np.testing.assert_allclose(third, other, atol=1e-5, rtol=1e-6)
    assert len({length for _, _, length, _ in few}) <= 6 < len({n for _, _, n, _ in many})


def test_a_gpu_takes_steps_and_many_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", vocab_size=2**18)
    assert (row_lengths(model), max_logit_rows(model)) == (CPU_LENGTHS, 128)
    monkeypatch.setattr(type(model), "device", torch.device("cuda", 0))
    assert (row_lengths(model), max_logit_rows(model)) == (GPU_LENGTHS, 1024)


def test_a_head_in_pieces_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ScoringQuery((3, 4, n), ((5, 6, 7), (8,)), (0, 2)) for n in range(9, 20)]
    expected = NestedModel(tiny_model("llama"), ORDER).log_likelihoods(asked)
    monkeypatch.setattr(module, "CPU_LOGIT_ELEMENTS", 3 * 97)
    for got, wanted in zip(
        NestedModel(tiny_model("llama"), ORDER).log_likelihoods(asked), expected, strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-6)
