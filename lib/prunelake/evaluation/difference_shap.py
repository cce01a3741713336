"""Shapley values of many levels at a fraction of the cost: Difference SHAP.

The game of level k is v_k: the log-likelihood of the option that level k predicts, given the
prompt tokens of a coalition. While accuracy is stable, v_k is close to v_0, the game of the same
option at level 0. So level 0 serves as a control variate:

    phi(v_k) = b phi(v_0) + phi(v_k - b v_0).

The identity holds for every b, because Shapley values are linear in the game. phi(v_0) is estimated
by Leverage SHAP (`shapley`) from many coalitions, which all levels share. The difference game
v_k - b v_0 varies little, so it needs few of these coalitions. b is the slope of v_k on v_0 over
the coalitions that both levels have. A level whose difference game is large takes more coalitions,
in stages. The scores are exact if a level has all coalitions.

With few coalitions, the ridge of the difference game pulls a level's scores towards b phi(v_0).
Therefore they look more like the scores of level 0 than the true scores do: do not measure the
agreement of levels with them. This does not affect faithfulness: deletion curves ask the level
itself.

Control variates for Shapley values: Goldwasser and Hooker, "Stabilizing Estimates of Shapley Values
with Control Variates", 2023. Their control variate is an approximation of the same model.
"""

from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np

from prunelake.evaluation.shapley import (
    RIDGE,
    Coalitions,
    odd_parts,
    sample_coalitions,
    shapley_values,
    subsample_coalitions,
)
from prunelake.schema.arrays import BoolArray, FloatArray

DIFFERENCE_RIDGE = 5 * RIDGE
"""The difference game is small, so its noise is large compared with its scores."""

MAX_SLOPE = 1.5

MAX_DIFFERENCE_SHARE = 0.3
"""A level with a larger difference game takes the coalitions of the next stage."""

ScoreMasks = Callable[[BoolArray, tuple[int, ...]], FloatArray]
"""Maps masks [masks, players] and levels to the values [masks, levels, options] of the games."""


Steps = Generator[tuple[BoolArray, tuple[int, ...]], FloatArray, dict[int, FloatArray]]
"""Yields masks and levels, is sent their values (as of `ScoreMasks`), returns scores by level."""


def sample_stages(
    player_count: int, sample_counts: Sequence[int], rng: np.random.Generator
) -> list[Coalitions]:
    """Draw coalitions for all stages: each stage has all coalitions of the stage before it.

    `sample_counts` are ascending; the last count belongs to level 0.
    """
    stages = [sample_coalitions(player_count, sample_counts[-1], rng)]
    for count in reversed(sample_counts[:-1]):
        stages.append(subsample_coalitions(stages[-1], count, rng))
    return stages[::-1]


def difference_shap(
    stages: Sequence[Coalitions],
    score: ScoreMasks,
    targets: Mapping[int, int],
    known_unpruned: Mapping[int, FloatArray] | None = None,
) -> dict[int, FloatArray]:
    """The scores [players] of each level in `targets`, from `difference_steps`."""
    steps = difference_steps(stages, targets, known_unpruned)
    try:
        request = next(steps)
        while True:
            request = steps.send(score(*request))
    except StopIteration as finished:
        scores: dict[int, FloatArray] = finished.value
        return scores


def difference_steps(
    stages: Sequence[Coalitions],
    targets: Mapping[int, int],
    known_unpruned: Mapping[int, FloatArray] | None = None,
) -> Steps:
    """The scores [players] of each level in `targets`, which maps a level to its option.

    This generator asks for values of the games step by step, so a caller can evaluate the requests
    of many games together.

    Level 0 is asked about all coalitions of the last stage, unless `known_unpruned` has its scores
    for all these options. Each other level is asked about the first stage, and about further stages
    except the last, until its difference game is small. The scores of a level depend only on this
    level and level 0.
    """
    unpruned_scores = dict(known_unpruned or {})
    if unknown := {*targets.values()} - unpruned_scores.keys():
        unpruned = (yield stages[-1].masks, (0,))[:, 0]
        unpruned_scores |= {
            option: shapley_values(stages[-1], unpruned[:, option]) for option in unknown
        }
    scores = {0: unpruned_scores[targets[0]]} if 0 in targets else {}
    waiting = [level for level in targets if level != 0]
    for stage in stages[:-1]:
        values = yield stage.masks, (0, *waiting)
        by_level = dict(zip(waiting, np.moveaxis(values[:, 1:], 1, 0), strict=True))
        waiting = []
        for level, level_values in by_level.items():
            option = targets[level]
            reference, own = values[:, 0, option], level_values[:, option]
            slope = _slope(reference, own)
            difference = own - slope * reference
            expected = slope * unpruned_scores[option]
            scores[level] = expected + shapley_values(stage, difference, DIFFERENCE_RIDGE)
            if _size(stage, difference) > MAX_DIFFERENCE_SHARE * _spread(expected):
                waiting.append(level)
        if not waiting:
            break
    return scores


def _slope(reference: FloatArray, own: FloatArray) -> float:
    """The slope of `own` on `reference` by least squares, limited to 0 to MAX_SLOPE."""
    centred = reference - reference.mean()
    variation = float(centred @ centred)
    if variation == 0:
        return 0.0
    return min(max(float(centred @ own) / variation, 0.0), MAX_SLOPE)


def _size(coalitions: Coalitions, difference: FloatArray) -> float:
    """The estimated spread of the difference game's scores, with its odd interactions."""
    return float(coalitions.weights @ odd_parts(coalitions, difference) ** 2)


def _spread(scores: FloatArray) -> float:
    return float(((scores - scores.mean()) ** 2).sum())
