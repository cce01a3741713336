"""The shards of a sweep: a few examples each, the unit of work, retry and resume."""

from collections.abc import Iterable
from dataclasses import dataclass

EXAMPLES_PER_PREDICTION_SHARD = 64
"""Examples of a shard that only predicts: a few full batches."""

EXAMPLES_PER_EXPLANATION_SHARD = 4
"""Examples of a shard that explains them; an explanation costs hundreds of predictions."""


@dataclass(frozen=True)
class Shard:
    """The examples from `start` up to `stop` (exclusive) of a run."""

    start: int
    stop: int

    @property
    def name(self) -> str:
        """The name in the lake: the positions of the examples."""
        return f"{self.start:06}-{self.stop:06}"

    def __str__(self) -> str:
        return f"examples {self.start} to {self.stop - 1}"


def split_into_shards(
    example_count: int, explained_count: int, level_counts: Iterable[int] = ()
) -> list[Shard]:
    """The shards of a run whose first `explained_count` examples are explained.

    `level_counts` are the numbers of examples that single levels explain: all examples of a shard
    are explained at the same levels.

    Shards follow from the run alone. Interruptions and the choice of the executor change no number.
    """
    starts = sorted(
        {
            *range(0, explained_count, EXAMPLES_PER_EXPLANATION_SHARD),
            *(count for count in level_counts if count < explained_count),
            *range(explained_count, example_count, EXAMPLES_PER_PREDICTION_SHARD),
        }
    )
    return [Shard(*ends) for ends in zip(starts, [*starts[1:], example_count], strict=True)]
