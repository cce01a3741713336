"""Greedy search for a removal order: remove what does the least damage, measure again, and so on.

The candidates of a step, each lacking what is removed so far and one layer more, run as levels of
one pass: they share all that is in front of that layer (`nested`). With r of L layers removed, a
step over T tokens costs T (L + sum of (L - l) over the layers l that are left) / L forward tokens:
about half of asking about each candidate on its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from scipy.special import log_softmax

from prunelake.errors import ModelError
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import FloatArray
from prunelake.spec import UNIT_NAMES, Unit
from prunelake.tasks.encoding import EncodedExample

ImportanceFunction = Callable[[tuple[int, ...]], Mapping[int, float]]
"""The layers removed so far to what each layer that is left is worth, input first."""

DamageFunction = Callable[[Sequence[FloatArray]], FloatArray]
"""Arrays [levels, options] of log-likelihoods, one a query, to the damage [levels]."""


def greedy_order(
    layer_count: int,
    depth: int,
    measure: ImportanceFunction,
    progress: Progress | None = None,
    unit: Unit = "attention",
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """An order that removes what is worth least, measured again after each removal, and the worths.

    Of equals the layer nearer to the input goes first. After `depth` removals, but at least one
    measurement, the layers that are left follow by what they were worth in the last step. So the
    worth of a layer is that of the step which removed it, or of the last one.

    Raises:
        ModelError: a worth that is no number, as of a model that overflows its type.
    """
    order: list[int] = []
    worth: dict[int, float] = {}
    steps = min(max(depth, 1), layer_count)
    for step in range(steps):
        found = measure(tuple(order))
        if not np.isfinite([*found.values()]).all():
            raise ModelError(
                f"without {UNIT_NAMES[unit]} {order} the model makes of the others "
                f"{[*found.values()]}; its numbers overflow: take dtype float32 or bfloat16"
            )
        worth |= found
        order.append(min(found, key=found.__getitem__))
        if progress:
            progress(step + 1, steps)
    left = sorted(worth.keys() - {*order})
    order += sorted(left, key=worth.__getitem__)
    return tuple(order), tuple(worth[layer] for layer in range(layer_count))


def loss_increase(model: NestedModel, windows: Iterable[Sequence[int]]) -> ImportanceFunction:
    """How far each further removal raises the mean loss (nats) of the next token of `windows`."""
    asked = [ScoringQuery((window[0],), (tuple(window[1:]),), (0,)) for window in windows]
    tokens = sum(len(query.options[0]) for query in asked)

    def loss(answers: Sequence[FloatArray]) -> FloatArray:
        return np.asarray(-np.sum([answer[:, 0] for answer in answers], axis=0) / tokens)

    return damage_increase(model, asked, loss)


def divergence_increase(
    model: NestedModel, examples: Iterable[EncodedExample]
) -> ImportanceFunction:
    """How far each further removal raises the mean divergence from the unpruned model.

    The divergence on an example is KL(p || q) in nats: p and q are the softmax over its options'
    log-likelihoods, of the unpruned and of the pruned model.
    """
    asked = [ScoringQuery((*e.prefix, *e.prompt), e.options, (0,)) for e in examples]
    unpruned = [log_softmax(answer[0]) for answer in model.log_likelihoods(asked)]

    def divergence(answers: Sequence[FloatArray]) -> FloatArray:
        rows = [
            (np.exp(p) * (p - log_softmax(answer, axis=1))).sum(axis=1)
            for p, answer in zip(unpruned, answers, strict=True)
        ]
        return np.asarray(np.mean(rows, axis=0))

    return damage_increase(model, asked, divergence)


def damage_increase(
    model: NestedModel,
    asked: Sequence[ScoringQuery],
    damage: DamageFunction,
    breadth: int | None = None,
) -> ImportanceFunction:
    """How far each further removal raises the damage, over that without the layers removed so far.

    Of more than `breadth` layers that are left, those are measured that were worth least when they
    were measured last; first, all are.
    """
    count = len(model.layers)
    known: dict[int, float] = {}

    def measure(removed: tuple[int, ...]) -> dict[int, float]:
        left = [layer for layer in range(count) if layer not in removed]
        if known and breadth is not None:
            left = sorted(sorted(left, key=known.__getitem__)[:breadth])
        masks = model.masks_without([removed, *((*removed, layer) for layer in left)])
        levels = tuple(range(masks.level_count))
        queries = [ScoringQuery(q.prompt, q.options, levels) for q in asked]
        damages = damage(model.log_likelihoods(queries, masks=masks))
        worth = dict(zip(left, (damages[1:] - damages[0]).tolist(), strict=True))
        known.update(worth)
        return worth

    return measure
