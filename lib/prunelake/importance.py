"""Removal orders: which attention layers go first."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from prunelake.encoding import Encoded
from prunelake.greedy import divergence_increase, greedy, loss_increase
from prunelake.models import AttentionLayer, attention_layers
from prunelake.nested import NestedModel, Progress
from prunelake.precision import products
from prunelake.spec import Strategy
from prunelake.surgery import removed


@dataclass(frozen=True)
class RemovalOrder:
    """`layers`, first removed first, and the `importance` of each layer, input first.

    `forward_tokens` went through the whole model to find it; 0 where only the order is known.
    """

    layers: tuple[int, ...]
    importance: tuple[float, ...]
    forward_tokens: float = field(default=0.0, compare=False)

    @classmethod
    def from_importance(
        cls, importance: Sequence[float], forward_tokens: float = 0.0
    ) -> "RemovalOrder":
        """Least important first; of equals the one nearer to the input."""
        order = np.argsort(np.asarray(importance), kind="stable")
        return cls(tuple(order.tolist()), tuple(float(x) for x in importance), forward_tokens)


def removal_order(
    model: PreTrainedModel,
    strategy: Strategy,
    windows: Sequence[Sequence[int]],
    questions: Sequence[Encoded] = (),
    depth: int | None = None,
    progress: Progress | None = None,
) -> RemovalOrder:
    """The removal order of a strategy, and what importance it gave each layer.

    - `cosine`: `cosine_importance` of the unpruned model, lowest first (the paper's);
    - `random`: a uniform draw, lowest first;
    - `last`: how many layers stand behind, lowest first;
    - `iterative`: `cosine_importance` of the model without the layers removed so far;
    - `loss`: the increase of the next token's mean loss (nats) over the model without the layers
      removed so far;
    - `divergence`: the same of the mean divergence (nats) of option distributions from those of
      the unpruned model.

    The last three are greedy: they measure again after each removal (`greedy.greedy`), and a
    layer's importance is that of the step which removed it, or of the last step.

    Args:
        model: it is used, never changed.
        strategy: what decides.
        windows: token ids of calibration text, for `cosine`, `iterative` and `loss`.
        questions: examples that are not reported, for `divergence`.
        depth: the deepest level of the sweep: behind it nothing is measured again; None is all.
        progress: told how many steps of a greedy search are done.

    Raises:
        ModelError: numbers that overflow, or too little memory for a single row.
    """
    count = len(attention_layers(model))
    if strategy.name == "random":
        drawn = np.random.default_rng(strategy.seed).random(count)
        return RemovalOrder.from_importance(drawn.tolist())
    if strategy.name == "last":
        return RemovalOrder.from_importance(range(count - 1, -1, -1))
    tokens = sum(len(window) for window in windows)
    if strategy.name == "cosine":
        return RemovalOrder.from_importance(cosine_importance(model, windows), tokens)
    steps = count if depth is None else depth
    if strategy.name == "iterative":
        passes = 0

        def measure(gone: tuple[int, ...]) -> dict[int, float]:
            nonlocal passes
            passes += 1
            with removed(model, gone):
                found = cosine_importance(model, windows)
            return {layer: found[layer] for layer in range(count) if layer not in gone}

        return RemovalOrder(*greedy(count, steps, measure, progress), passes * tokens)
    nested = NestedModel(model, ())
    increase = (
        loss_increase(nested, windows)
        if strategy.name == "loss"
        else divergence_increase(nested, questions)
    )
    return RemovalOrder(*greedy(count, steps, increase, progress), nested.forward_tokens)


@torch.inference_mode()
def cosine_importance(model: PreTrainedModel, windows: Sequence[Sequence[int]]) -> list[float]:
    """1 - mean over tokens of cos(x, x + a), for each attention layer, input first.

    x is the residual stream in front of the block and a is what its attention adds to it: behind
    a norm of its own in Gemma and OLMo2. Windows run one by one and only sums are kept.
    Source: arXiv 2606.24970 (after arXiv 2406.15786).
    """
    layers = attention_layers(model)
    sums = torch.zeros(len(layers), dtype=torch.float64)
    with products(model), ExitStack() as stack:
        for number, layer in enumerate(layers):
            stack.enter_context(_summing(layer, sums, number))
        for window in windows:
            ids = torch.tensor([[*window]], device=model.device)
            model.base_model(input_ids=ids, use_cache=False)
    tokens = sum(len(window) for window in windows)
    return (1 - sums / tokens).tolist()


@contextmanager
def _summing(layer: AttentionLayer, sums: Tensor, number: int) -> Iterator[None]:
    """Add cos(x, x + a) over the tokens of every pass to `sums[number]`."""
    seen: dict[str, Tensor] = {}

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen["x"] = args[0]

    def attended(_: nn.Module, __: Any, output: Any) -> None:
        seen["attention"] = seen["added"] = output[0]

    def normed(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # A norm fed with the attention's very output is what the block adds in its place. (Llama
        # has a norm of the same name that is fed with the sum, so names do not tell.)
        if args and args[0] is seen.get("attention"):
            seen["added"] = output

    def leave(*_: Any) -> None:
        x = seen["x"].float()
        cosine = cosine_similarity(x, x + seen["added"].float(), dim=-1)
        sums[number] += cosine.double().sum().cpu()
        seen.clear()

    norms = [child for name, child in layer.block.named_children() if "norm" in name]
    hooks = [
        layer.block.register_forward_pre_hook(enter),
        layer.attention.register_forward_hook(attended),
        *[norm.register_forward_hook(normed) for norm in norms],
        layer.block.register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
