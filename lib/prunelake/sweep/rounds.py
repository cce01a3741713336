"""The sizes of the rounds of a sweep that adds examples until its verdicts are decided."""

import math

GROWTH = 1.4
"""Each round has so many times the examples of the one before: about seven rounds for ten times."""

MIN_LOOK = 50
"""No verdict is looked at with fewer examples: normal theory needs some tens."""


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
