"""Copies from the host to the device, counted on torch's meta device."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery, batch_inputs, build_trees
from prunelake.inference.transfer import Indices, send_indices
from prunelake.spec import Unit
from tests.support.models.tiny_models import tiny_model

MAX_COPIES = 40


class CopiesToDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Counts the tensors that go from the host to the meta device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        inputs = [arg for arg in args if isinstance(arg, Tensor)]
        if isinstance(found, Tensor) and found.is_meta and inputs:
            self.count += any(not arg.is_meta and arg.ndim > 0 for arg in inputs)
        return found


@pytest.mark.parametrize("unit", ["attention", "block"])
def test_a_pass_copies_little_to_the_device(unit: Unit) -> None:
    """32 blocks and 17 levels of a random order, as of a model of 7B."""
    draw = random.Random(0)
    order = draw.sample(range(32), 32)
    model = tiny_model("llama", num_hidden_layers=32)
    nested = NestedModel(model, order, unit=unit)
    nn.Module.to(model, torch.device("meta"))  # the model's own `to` has no types
    queries = [
        ScoringQuery((1, *draw.choices(range(97), k=9)), ((5, 6), (7,)), (*range(17),))
        for _ in range(30)
    ]
    rows = [row for row, _ in build_trees(queries, 128)]
    assert len(rows) > 1
    with CopiesToDevice() as copies, torch.inference_mode():
        hidden, branches = nested.run_batch(rows, batch_inputs(rows, model.dtype))
        values, _ = nested.target_log_likelihoods(hidden, branches, rows)
    assert values.is_meta
    assert 4 < copies.count <= MAX_COPIES


def test_parts_arrive_as_they_were() -> None:
    parts: list[Indices] = [[3, 1], np.array([], np.int64), np.array([7])]
    found = send_indices(parts, torch.device("cpu"))
    assert [part.tolist() for part in found] == [[3, 1], [], [7]]
