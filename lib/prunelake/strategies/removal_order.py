"""Removal orders: the layers of a model in the order in which a sweep removes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from transformers import PreTrainedModel

from prunelake.inference.nested import NestedModel, Progress
from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.loading import check_supported
from prunelake.models.removal import removed
from prunelake.spec import Strategy
from prunelake.strategies.balanced import balanced_increase
from prunelake.strategies.expert_order import expert_order
from prunelake.strategies.greedy import divergence_increase, greedy_order, loss_increase
from prunelake.strategies.importance import cosine_importance
from prunelake.tasks.encoding import EncodedExample


@dataclass(frozen=True)
class RemovalOrder:
    """`layers`, first removed first, and the `importance` of each layer, input first.

    `forward_tokens` is the number of tokens that went through the whole model to find the order; 0
    if only the order is known.
    """

    layers: tuple[int, ...]
    importance: tuple[float, ...]
    forward_tokens: float = field(default=0.0, compare=False)

    @classmethod
    def from_importance(
        cls, importance: Sequence[float], forward_tokens: float = 0.0
    ) -> "RemovalOrder":
        """Least important layers first; equally important layers from the input on."""
        order = np.argsort(np.asarray(importance), kind="stable")
        return cls(tuple(order.tolist()), tuple(float(x) for x in importance), forward_tokens)


def removal_order(
    model: PreTrainedModel,
    strategy: Strategy,
    windows: Sequence[Sequence[int]],
    search_examples: Sequence[EncodedExample] = (),
    depth: int | None = None,
    progress: Progress | None = None,
) -> RemovalOrder:
    """The removal order of a strategy, and the importance that it gives each layer.

        order = removal_order(model, Strategy(name="cosine"), windows)

    - `cosine`: `cosine_importance` of the unpruned model, lowest first (as in the paper);
    - `random`: a uniform draw, lowest first;
    - `last`: the number of layers behind a layer, lowest first;
    - `iterative`: `cosine_importance` of the model without the layers removed so far;
    - `loss`: the increase of the next token's mean loss (nats) over the model without the layers
      removed so far;
    - `divergence`: this increase of the mean divergence (nats) of option distributions from the
      distributions of the unpruned model;
    - `balanced`: this increase of the damage to accuracy, calibration and explanations
      (`balanced`).

    The last four are greedy: they measure again after each removal (`greedy.greedy_order`). A
    layer's importance is the importance in the step that removed it, or in the last step. Experts
    have strategies of their own (`expert_order`).

    Args:
        model: it is used, never changed.
        strategy: the name, the unit and the seed.
        windows: token ids of calibration text, for `cosine`, `iterative` and `loss`.
        search_examples: examples that the sweep does not report, for `divergence` and `balanced`.
        depth: the deepest level of the sweep; a greedy search stops there. None searches all
            levels.
        progress: takes the numbers of finished and of all steps of a greedy search.

    Raises:
        ModelError: numbers that overflow, or too little memory for a single row.
        TaskError: prompts too short for `balanced`.
        UnsupportedModel: the model does not have the unit, or does not run it as expected.
    """
    unit = strategy.unit
    check_supported(model, unit)
    tokens = sum(len(window) for window in windows)
    if unit == "expert" or strategy.name == "use":
        order, importance, passes = expert_order(model, strategy, windows, depth, progress)
        return RemovalOrder(order, importance, passes * tokens)
    count = len(removable_parts(model, unit))
    if strategy.name == "random":
        draw = np.random.default_rng(strategy.seed).random(count)
        return RemovalOrder.from_importance(draw.tolist())
    if strategy.name == "last":
        return RemovalOrder.from_importance(range(count - 1, -1, -1))
    if strategy.name == "cosine":
        return RemovalOrder.from_importance(cosine_importance(model, windows, unit), tokens)
    steps = count if depth is None else depth
    if strategy.name == "iterative":
        passes = 0

        def measure(removed_layers: tuple[int, ...]) -> dict[int, float]:
            nonlocal passes
            passes += 1
            with removed(model, removed_layers, unit):
                importance = cosine_importance(model, windows, unit)
            left = [layer for layer in range(count) if layer not in removed_layers]
            return {layer: importance[layer] for layer in left}

        return RemovalOrder(*greedy_order(count, steps, measure, progress, unit), passes * tokens)
    nested = NestedModel(model, (), unit=unit)
    if strategy.name == "loss":
        increase = loss_increase(nested, windows)
    elif strategy.name == "divergence":
        increase = divergence_increase(nested, search_examples)
    elif strategy.name == "balanced":
        increase = balanced_increase(nested, search_examples)
    else:
        assert_never(strategy.name)
    return RemovalOrder(
        *greedy_order(count, steps, increase, progress, unit), nested.forward_tokens
    )
