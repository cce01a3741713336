"""The rounds of a sweep until decided: how many examples each has, and at which levels."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from prunelake.analysis.sequential import MIN_LOOK

GROWTH = 1.4
"""Each round has so many times the examples of the one before: about seven rounds for ten times."""

MIN_LEVELS = 4
"""A round explains at least so many levels, since most of its work serves them all."""

EXPLAINED_UNIT = 4
"""Numbers of explained rows are multiples of the rows of a shard."""


@dataclass(frozen=True)
class RoundSize:
    """The rows of a round, and its explained rows by level above 0."""

    rows: int
    explained: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenQuestions:
    """What a round has left open.

    `rows` is true if more rows can decide something, `levels` are those at which more explained
    rows can, and `lost` the levels that have lost accuracy. `border` is the deepest level that has
    not lost it.
    """

    rows: bool
    levels: Collection[int] = ()
    lost: Collection[int] = ()
    border: int = 0


def next_size(size: int, planned: int) -> int:
    """The number of examples in the round after one of `size`; at most the planned number.

    If a round would leave little for the last one, it takes all that is left.
    """
    grown = max(MIN_LOOK, math.ceil(GROWTH * size))
    return planned if grown * math.sqrt(GROWTH) >= planned else grown


def round_sizes(pilot: int, planned: int) -> list[int]:
    """The numbers of examples of all rounds after a pilot."""
    sizes: list[int] = []
    while not sizes or sizes[-1] < planned:
        sizes.append(next_size(sizes[-1] if sizes else pilot, planned))
    return sizes


def next_round(size: RoundSize, planned: RoundSize, questions: OpenQuestions) -> RoundSize | None:
    """The size of the next round; None if no planned example is left that could decide anything.

    Rows grow while accuracy or calibration is open at any level. Explained rows grow at the half of
    the open levels that is nearest to the border, and at MIN_LEVELS levels at least. Levels that
    have lost accuracy are not explained.
    """
    candidates = [
        level
        for level in questions.levels
        if level not in questions.lost
        and size.explained.get(level, 0) < planned.explained.get(level, 0)
    ]
    nearest = sorted(candidates, key=lambda level: (abs(level - questions.border), level))
    explained = dict(size.explained)
    for level in nearest[: max(MIN_LEVELS, math.ceil(len(nearest) / 2))]:
        grown = next_size(explained.get(level, 0), planned.explained[level])
        grown = EXPLAINED_UNIT * math.ceil(grown / EXPLAINED_UNIT)
        explained[level] = min(grown, planned.explained[level])
    rows = size.rows
    if questions.rows and rows < planned.rows:
        rows = next_size(rows, planned.rows)
    rows = max(rows, *explained.values(), 0)
    following = RoundSize(rows, explained)
    return None if following == size else following
