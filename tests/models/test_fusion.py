"""Compiled norms and MLPs give the same numbers, and compile once for all shapes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from prunelake.inference.nested import NestedModel
from prunelake.models.fusion import fuse_elementwise, fusible_modules
from tests.inference.test_nested import ORDER, queries
from tests.support.models.tiny_models import LAYER_COUNT, tiny_model


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize(("family", "norms", "graphs"), [("llama", 2, 2), ("gemma3", 6, 4)])
def test_each_kind_of_module_compiles_once(family: str, norms: int, graphs: int) -> None:
    """For batches of all shapes; a recording backend runs torch's own operations."""
    model, asked = tiny_model(family), queries(16)
    expected = NestedModel(model, ORDER).log_likelihoods(asked)
    modules = fusible_modules(model)
    assert len(modules) == LAYER_COUNT * (1 + norms) + 1
    fuse_elementwise(model, "eager")
    for budget in (400, 60, 200):
        nested = NestedModel(model, ORDER, token_budget=budget)
        for got, wanted in zip(nested.log_likelihoods(asked), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-6)
    assert 0 < counters["stats"]["unique_graphs"] <= graphs


@pytest.mark.endurance
def test_the_compiler_of_torch_keeps_the_numbers() -> None:
    model, asked = tiny_model("llama"), queries(6)
    expected = NestedModel(model, ORDER).log_likelihoods(asked)
    fuse_elementwise(model)
    for got, wanted in zip(NestedModel(model, ORDER).log_likelihoods(asked), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-5)
