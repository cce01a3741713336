"""Shapes of batches on a GPU: doubles stand for the GPU, and the shapes are counted."""

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prunelake.inference import batches as module
from prunelake.inference.batches import length_multiple, max_logit_rows
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from tests.support.tiny_models import tiny_model

ORDER = (3, 0, 4, 1, 2)


def answers(
    asked: list[ScoringQuery], multiple: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[NDArray[np.float64]], set[tuple[int, ...]]]:
    """The answers, and the shapes that attention sees where lengths are multiples of this."""
    shapes = set()
    attend = torch.nn.functional.scaled_dot_product_attention

    def noting(query: torch.Tensor, *arguments: object, **named: object) -> torch.Tensor:
        shapes.add(tuple(query.shape))
        return attend(query, *arguments, **named)  # type: ignore[arg-type]  # as they came

    with monkeypatch.context() as patched:
        patched.setattr("torch.nn.functional.scaled_dot_product_attention", noting)
        patched.setattr("prunelake.inference.nested.length_multiple", lambda _: multiple)
        return NestedModel(tiny_model("llama"), ORDER, 512).log_likelihoods(asked), shapes


def test_lengths_in_steps_change_no_answer_and_make_few_shapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(0)
    asked = [
        ScoringQuery((*draw.choices(range(3, 97), k=n),), ((5, 6), (7,)), (0, 2, 5))
        for n in range(20, 90, 2)
    ]
    exact, many = answers(asked, 1, monkeypatch)
    stepped, few = answers(asked, 16, monkeypatch)
    for one, other in zip(stepped, exact, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-6)
    assert {length % 16 for _, _, length, _ in few} == {0}
    assert len({length for _, _, length, _ in few}) <= 5 < len({n for _, _, n, _ in many})


def test_a_gpu_takes_steps_and_many_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", vocab_size=2**18)
    assert (length_multiple(model), max_logit_rows(model)) == (1, 128)
    monkeypatch.setattr(type(model), "device", torch.device("cuda", 0))
    assert (length_multiple(model), max_logit_rows(model)) == (16, 1024)


def test_a_head_in_pieces_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ScoringQuery((3, 4, n), ((5, 6, 7), (8,)), (0, 2)) for n in range(9, 20)]
    expected = NestedModel(tiny_model("llama"), ORDER).log_likelihoods(asked)
    monkeypatch.setattr(module, "CPU_LOGIT_ELEMENTS", 3 * 97)
    for got, wanted in zip(
        NestedModel(tiny_model("llama"), ORDER).log_likelihoods(asked), expected, strict=True
    ):
        np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-6)
