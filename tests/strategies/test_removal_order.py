import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.models.decoder.decoder_map import decoder_blocks
from prunelake.spec import Strategy, Unit
from prunelake.strategies.importance import cosine_importance
from prunelake.strategies.removal_order import RemovalOrder, removal_order
from tests.support.models.tiny_models import (
    LAYER_COUNT,
    SHORT_FAMILIES,
    UNITS,
    VOCABULARY,
    tiny_model,
)

LENGTHS = (3, 17, 8)


@pytest.fixture
def windows() -> list[list[int]]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randint(3, VOCABULARY, (n,), generator=draw).tolist() for n in LENGTHS]


@torch.inference_mode()
def through(model: PreTrainedModel, layer: int, window: list[int], has_mlp: bool) -> list[Tensor]:
    """The input and the output of a block, with its MLP or with an MLP that gives zero."""
    block = decoder_blocks(model)[layer].module
    seen: list[Tensor] = []

    def keep(_module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend((args[0][0].double(), output[0].double()))

    hooks = [
        block.get_submodule("mlp").register_forward_hook(
            lambda _module, _args, output: output if has_mlp else torch.zeros_like(output)
        ),
        block.register_forward_hook(keep),
    ]
    model(input_ids=torch.tensor([window]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return seen


def without_and_with(
    model: PreTrainedModel, layer: int, window: list[int], unit: Unit
) -> tuple[Tensor, Tensor]:
    """The residual stream behind a block, without and with the output of a unit."""
    x, attended = through(model, layer, window, has_mlp=False)
    _, y = through(model, layer, window, has_mlp=True)
    return {"attention": (x, attended), "mlp": (attended, y), "block": (x, y)}[unit]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("family", SHORT_FAMILIES)
def test_cosine_importance_is_one_less_the_mean_cosine_over_all_tokens(
    family: str, unit: Unit, windows: list[list[int]]
) -> None:
    model = tiny_model(family)
    expected = []
    for layer in range(LAYER_COUNT):
        pairs = [without_and_with(model, layer, window, unit) for window in windows]
        x, y = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
        cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
        assert len(cosines) == sum(LENGTHS)
        expected.append(1 - cosines.mean())
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(cosine_importance(model, windows, unit), expected, atol=1e-5)


def test_the_least_important_layer_goes_first(windows: list[list[int]]) -> None:
    model = tiny_model("llama")
    order = removal_order(model, Strategy(), windows)
    assert order.importance == tuple(cosine_importance(model, windows))
    assert order.layers == tuple(sorted(range(LAYER_COUNT), key=order.importance.__getitem__))
    assert order.forward_tokens == sum(LENGTHS)


def test_last_removes_the_deepest_layer_first_and_computes_nothing() -> None:
    order = removal_order(tiny_model("llama"), Strategy(name="last"), ())
    assert order == RemovalOrder((4, 3, 2, 1, 0), (4, 3, 2, 1, 0))
    assert order.forward_tokens == 0


def test_of_equals_the_one_nearer_to_the_input_goes_first() -> None:
    order = RemovalOrder.from_importance([0.5, 0.1, 0.5, 0.1, 0.0])
    assert order == RemovalOrder((4, 1, 3, 0, 2), (0.5, 0.1, 0.5, 0.1, 0.0))


def test_a_random_order_is_a_permutation_drawn_by_its_seed() -> None:
    model = tiny_model("llama")
    orders = [removal_order(model, Strategy(name="random", seed=n), ()) for n in range(20)]
    assert all(sorted(order.layers) == [*range(LAYER_COUNT)] for order in orders)
    assert orders[3] == removal_order(model, Strategy(name="random", seed=3), ())
    # There are 120 orders: 20 independent draws would not be almost all the same.
    assert len({order.layers for order in orders}) > 10


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("bad", [False, True])
def test_no_hook_remains(bad: bool, unit: Unit, windows: list[list[int]]) -> None:
    model = tiny_model("gemma2")
    if bad:
        with pytest.raises(IndexError):
            cosine_importance(model, [*windows, [VOCABULARY]], unit)
    else:
        cosine_importance(model, windows, unit)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
