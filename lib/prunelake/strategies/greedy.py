"""Greedy search for a removal order: remove the layer that does the least damage, measure again.

The candidates of a step lack the layers removed so far and one more layer each. They run as levels
of one pass and share everything in front of that layer (`nested`). With r of L layers removed, a
step over T tokens costs T (L + sum of (L - l) over the remaining layers l) / L forward tokens,
about half the cost of separate passes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from prunelake.analysis.confidence import log_option_probabilities
from prunelake.errors import ModelError
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import FloatArray
from prunelake.spec import UNIT_NAMES, Unit
from prunelake.tasks.encoding import EncodedExample

ImportanceFunction = Callable[[tuple[int, ...]], Mapping[int, float]]
"""Maps the layers removed so far to the importance of each remaining layer, input first."""

DamageFunction = Callable[[Sequence[FloatArray]], FloatArray]
"""Maps arrays [levels, options] of log-likelihoods, one for each query, to the damage [levels]."""


def greedy_order(
    layer_count: int,
    depth: int,
    measure: ImportanceFunction,
    progress: Progress | None = None,
    unit: Unit = "attention",
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The order that removes the least important layer first, and the importance of each layer.

    Importance is measured again after each removal. If layers are equally important, the layer
    nearer to the input is removed first. After `depth` removals (and at least one measurement), the
    remaining layers follow by their importance in the last step. The importance of a layer is its
    importance in the step that removed it, or in the last step.

    Raises:
        ModelError: an importance is not a finite number: the model overflows its number format.
    """
    order: list[int] = []
    importance: dict[int, float] = {}
    steps = min(max(depth, 1), layer_count)
    for step in range(steps):
        measured = measure(tuple(order))
        if not np.isfinite([*measured.values()]).all():
            raise ModelError(
                f"without {UNIT_NAMES[unit]} {order} the importance of the other layers is "
                f"{[*measured.values()]}; numbers overflow: take dtype float32 or bfloat16"
            )
        importance |= measured
        order.append(min(measured, key=measured.__getitem__))
        if progress:
            progress(step + 1, steps)
    left = sorted(importance.keys() - {*order})
    order += sorted(left, key=importance.__getitem__)
    return tuple(order), tuple(importance[layer] for layer in range(layer_count))


def loss_increase(model: NestedModel, windows: Iterable[Sequence[int]]) -> ImportanceFunction:
    """The increase of the next token's mean loss (nats) on `windows` by each further removal."""
    queries = [ScoringQuery((window[0],), (tuple(window[1:]),), (0,)) for window in windows]
    tokens = sum(len(query.options[0]) for query in queries)

    def loss(answers: Sequence[FloatArray]) -> FloatArray:
        return np.asarray(-np.sum([answer[:, 0] for answer in answers], axis=0) / tokens)

    return damage_increase(model, queries, loss)


def divergence_increase(
    model: NestedModel, examples: Iterable[EncodedExample]
) -> ImportanceFunction:
    """The increase of the mean divergence from the unpruned model by each further removal.

    The divergence on an example is KL(p || q) in nats. p and q are the softmax over the options'
    log-likelihoods of the unpruned and of the pruned model.
    """
    queries = [ScoringQuery((*e.prefix, *e.prompt), e.options, (0,)) for e in examples]
    unpruned = [log_option_probabilities(answer[0]) for answer in model.log_likelihoods(queries)]

    def divergence(answers: Sequence[FloatArray]) -> FloatArray:
        rows = [
            (np.exp(p) * (p - log_option_probabilities(answer))).sum(axis=1)
            for p, answer in zip(unpruned, answers, strict=True)
        ]
        return np.asarray(np.mean(rows, axis=0))

    return damage_increase(model, queries, divergence)


def damage_increase(
    model: NestedModel,
    queries: Sequence[ScoringQuery],
    damage: DamageFunction,
    breadth: int | None = None,
) -> ImportanceFunction:
    """The increase of the damage by each further removal after the layers removed so far.

    The first step measures every layer. Later steps measure only the `breadth` remaining layers
    that had the least importance when they were measured last; None measures all.
    """
    count = len(model.layers)
    known: dict[int, float] = {}

    def measure(removed: tuple[int, ...]) -> dict[int, float]:
        left = [layer for layer in range(count) if layer not in removed]
        if known and breadth is not None:
            left = sorted(sorted(left, key=known.__getitem__)[:breadth])
        masks = model.masks_without([removed, *((*removed, layer) for layer in left)])
        levels = tuple(range(masks.level_count))
        at_levels = [ScoringQuery(q.prompt, q.options, levels) for q in queries]
        damages = damage(model.log_likelihoods(at_levels, masks=masks))
        importance = dict(zip(left, (damages[1:] - damages[0]).tolist(), strict=True))
        known.update(importance)
        return importance

    return measure
