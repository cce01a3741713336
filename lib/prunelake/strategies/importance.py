"""Removal orders: which attention layers, MLPs or blocks go first."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedModel

from prunelake.inference.nested import NestedModel, Progress
from prunelake.models.decoder_map import RemovableModule, attention_layers, removable_modules
from prunelake.models.loading import check_supported
from prunelake.models.precision import matmul_precision
from prunelake.models.removal import removed
from prunelake.spec import Strategy, Unit
from prunelake.strategies.balanced import balanced_increase
from prunelake.strategies.greedy import divergence_increase, greedy_order, loss_increase
from prunelake.tasks.encoding import EncodedExample


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
    questions: Sequence[EncodedExample] = (),
    depth: int | None = None,
    progress: Progress | None = None,
) -> RemovalOrder:
    """The removal order of a strategy, and what importance it gave each layer.

    - `cosine`: `cosine_importance` of the unpruned model, lowest first (the paper's, of attention);
    - `random`: a uniform draw, lowest first;
    - `last`: how many layers stand behind, lowest first;
    - `iterative`: `cosine_importance` of the model without the layers removed so far;
    - `loss`: the increase of the next token's mean loss (nats) over the model without the layers
      removed so far;
    - `divergence`: the same of the mean divergence (nats) of option distributions from those of
      the unpruned model;
    - `balanced`: the same of the damage to accuracy, calibration and explanations (`balanced`).

    The last four are greedy: they measure again after each removal (`greedy.greedy_order`), and a
    layer's importance is that of the step which removed it, or of the last step.

    Args:
        model: it is used, never changed.
        strategy: what decides.
        windows: token ids of calibration text, for `cosine`, `iterative` and `loss`.
        questions: examples that are not reported, for `divergence` and `balanced`.
        depth: the deepest level of the sweep: behind it nothing is measured again; None is all.
        progress: told how many steps of a greedy search are done.

    Raises:
        ModelError: numbers that overflow, or too little memory for a single row.
        TaskError: prompts too short for `balanced`.
        UnsupportedModel: a unit that could not be found in the model, or is not what it runs.
    """
    unit = strategy.unit
    check_supported(model, unit)
    count = len(attention_layers(model))
    if strategy.name == "random":
        drawn = np.random.default_rng(strategy.seed).random(count)
        return RemovalOrder.from_importance(drawn.tolist())
    if strategy.name == "last":
        return RemovalOrder.from_importance(range(count - 1, -1, -1))
    tokens = sum(len(window) for window in windows)
    if strategy.name == "cosine":
        return RemovalOrder.from_importance(cosine_importance(model, windows, unit), tokens)
    steps = count if depth is None else depth
    if strategy.name == "iterative":
        passes = 0

        def measure(gone: tuple[int, ...]) -> dict[int, float]:
            nonlocal passes
            passes += 1
            with removed(model, gone, unit):
                found = cosine_importance(model, windows, unit)
            return {layer: found[layer] for layer in range(count) if layer not in gone}

        return RemovalOrder(*greedy_order(count, steps, measure, progress, unit), passes * tokens)
    nested = NestedModel(model, (), unit=unit)
    if strategy.name == "loss":
        increase = loss_increase(nested, windows)
    elif strategy.name == "divergence":
        increase = divergence_increase(nested, questions)
    else:
        increase = balanced_increase(nested, questions)
    return RemovalOrder(
        *greedy_order(count, steps, increase, progress, unit), nested.forward_tokens
    )


@torch.inference_mode()
def cosine_importance(
    model: PreTrainedModel, windows: Sequence[Sequence[int]], unit: Unit = "attention"
) -> list[float]:
    """1 - mean over tokens of the cosine of the residual stream without and with a unit's output.

    x is the stream in front of the block, a and m what its attention and its MLP add to it: behind
    norms of their own in Gemma and OLMo2. An attention is worth 1 - cos(x, x + a), an MLP
    1 - cos(x + a, x + a + m) and a block 1 - cos(x, x + a + m). One number a layer, input first.
    Windows run one by one and only sums are kept.
    Source: arXiv 2406.15786; for attention arXiv 2606.24970.
    """
    layers = attention_layers(model)
    sums = torch.zeros(len(layers), dtype=torch.float64)
    adding = removable_modules(model, "attention" if unit == "attention" else "block")
    with matmul_precision(model), ExitStack() as stack:
        for number, layer in enumerate(layers):
            stack.enter_context(
                _accumulate_cosines(layer.block, adding[number], unit, sums, number)
            )
        for window in windows:
            ids = torch.tensor([[*window]], device=model.device)
            model.base_model(input_ids=ids, use_cache=False)
    tokens = sum(len(window) for window in windows)
    return (1 - sums / tokens).tolist()


@contextmanager
def _accumulate_cosines(
    block: nn.Module, adding: Sequence[RemovableModule], unit: Unit, sums: Tensor, number: int
) -> Iterator[None]:
    """Add the cosines over the tokens of every pass to `sums[number]`."""
    x: list[Tensor] = []
    outputs: list[Tensor] = []
    added: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
        x.append(args[0].float())

    def attended(_: nn.Module, __: Any, output: Any) -> None:
        answered(_, __, output[0])

    def answered(_: nn.Module, __: Any, output: Tensor) -> None:
        outputs.append(output)
        added.append(output)

    def normed(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        # A norm fed with the very output of a part is what the block adds in its place. (Llama
        # has a norm of the same name that is fed with the sum, so names do not tell.)
        if args and outputs and args[0] is outputs[-1]:
            added[-1] = output

    def leave(*_: Any) -> None:
        terms = [term.float() for term in added]
        before = x[0] + terms[0] if unit == "mlp" else x[0]
        after = sum(terms, x[0])
        sums[number] += cosine_similarity(before, after, dim=-1).double().sum().cpu()
        for seen in (x, outputs, added):
            seen.clear()

    norms = [child for name, child in block.named_children() if "norm" in name]
    hooks = [
        block.register_forward_pre_hook(enter),
        *[
            part.module.register_forward_hook(attended if part.is_attention else answered)
            for part in adding
        ],
        *[norm.register_forward_hook(normed) for norm in norms],
        block.register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
