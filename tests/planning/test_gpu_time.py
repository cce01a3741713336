"""The estimate of a GPU's time: its counts against torch's own, on the meta device."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaModel

from prunelake.models.gpu.device_names import FLOAT32_SLOWDOWN
from prunelake.planning.gpu_time import (
    ELEMENTWISE_BYTES,
    H100,
    SHAPES,
    ModelShape,
    Work,
    elementwise_bytes,
    gpu_time,
    product_flops,
)

ROWS, LENGTH = 8, 128


class Moved(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook
    """Counts the bytes that operations read and write, by name; views move nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self.bytes: Counter[str] = Counter()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        name = func.__name__.partition(".")[0]
        if name == "linear":
            self.flops += 2 * made[0].numel() * given[1].shape[1]
            return found
        storages = {tensor.untyped_storage()._cdata for tensor in given}
        if {tensor.untyped_storage()._cdata for tensor in made} - storages:
            self.bytes[name] += sum(tensor.nbytes for tensor in (*given, *made))
        return found


def moved(layers: int, shape: ModelShape, dtype: torch.dtype) -> tuple[float, float]:
    """The bytes and the FLOP of one pass of ROWS masked rows."""
    heads = shape.width // 128
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=shape.width,
        intermediate_size=shape.inner_width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=int(heads * shape.key_value_share),
    )
    with torch.device("meta"):
        model = LlamaModel(config)
        nn.Module.to(model, dtype)  # the model's own `to` has no types
        mask = torch.zeros(ROWS, 1, LENGTH, LENGTH, dtype=dtype)
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.long)
        positions = torch.arange(LENGTH).expand(ROWS, LENGTH)
    with torch.inference_mode(), Moved() as counted:
        model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return sum(counted.bytes.values()), counted.flops


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_bytes_between_products_match_the_model_s_own_code(dtype: torch.dtype) -> None:
    shape = SHAPES["7b"]
    pairs = zip(moved(3, shape, dtype), moved(1, shape, dtype), strict=True)
    moved_bytes, flops = ((three - one) / 2 / (ROWS * LENGTH) for three, one in pairs)
    by_width, by_inner_width = ELEMENTWISE_BYTES[dtype.itemsize]
    expected = by_width * shape.width + by_inner_width * shape.inner_width
    assert moved_bytes == pytest.approx(expected, rel=0.05)
    assert flops == 2 * (shape.attention_weights + shape.mlp_weights)


def test_the_shapes_have_the_parameters_of_their_names() -> None:
    billions = {name: shape.parameters / 1e9 for name, shape in SHAPES.items()}
    assert billions == pytest.approx({"1b": 1.5, "7b": 6.74, "70b": 69}, rel=0.02)


WORK = Work(1e6, 0.8e6, 200, 1e5, host_s=30, mask_s=60)


def test_parts_follow_from_the_data_sheet() -> None:
    shape = ModelShape(2, 8, 16, 0.5, 100)
    found = product_flops(shape, WORK)
    mlps = 2 * 2 * 3 * 8 * 16 * 1e6
    attention = 2 * (2 * 3 * 64 + 4 * 200 * 8) * 0.8e6
    assert found == pytest.approx(mlps + attention + 2 * 8 * 100 * 1e5)
    spent = gpu_time(shape, H100, "bfloat16", WORK)
    assert spent.products == pytest.approx(found / (0.6 * 989e12))
    moved_bytes = elementwise_bytes(shape, WORK, 2)
    assert moved_bytes == 2 * (136 * 8 + 10 * 16) * 1e6 + 12 * 100 * 1e5
    assert spent.elementwise == pytest.approx(moved_bytes / (0.85 * 3.35e12))
    parts = spent.products + spent.elementwise + spent.host + spent.masks
    assert spent.hours == parts / 3600
    fused = gpu_time(shape, H100, "bfloat16", WORK, 0.5)
    assert fused.elementwise == spent.elementwise / 2


def test_the_warning_about_float32_states_the_estimated_factor() -> None:
    work = Work(1e9, 0.75e9, 200, 1e6, 0, 0)
    hours = {name: gpu_time(SHAPES["7b"], H100, name, work).hours for name in H100.flops}
    factor = hours["float32"] / hours["bfloat16"]
    assert factor == pytest.approx(FLOAT32_SLOWDOWN, abs=0.5)
