"""The rounds of a sweep until decided: the number of examples of each round, and its levels."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from prunelake.analysis.sequential import MIN_LOOK

GROWTH = 1.4
"""The growth of the number of examples from round to round: about seven rounds for ten times."""

MIN_LEVELS = 4
"""A round explains at least this many levels, because the levels share most of its work."""

EXPLAINED_UNIT = 4
"""Numbers of explained rows are multiples of the rows of a shard."""


@dataclass(frozen=True)
class RoundSize:
    """The rows of a round, and its explained rows by level above 0."""

    rows: int
    explained: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class OpenQuestions:
    """The open questions of a round.

    `rows` is true if more rows can decide a question. At `levels`, more explained rows can decide a
    question. `lost` are the levels that have lost accuracy, and `border` is the deepest level that
    has not lost accuracy.
    """

    rows: bool
    levels: Collection[int] = ()
    lost: Collection[int] = ()
    border: int = 0


def next_size(size: int, planned: int) -> int:
    """The number of examples in the round after a round of `size`; at most the planned number.

    If a round would leave few examples for the last round, it takes all remaining examples.
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
    """The size of the next round; None if no remaining planned example can decide a question.

    Rows grow while accuracy or calibration is open at any level. Explained rows grow at the half of
    the open levels that is nearest to the border, but at least at MIN_LEVELS levels. Levels that
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
