"""The shards of a sweep: a few examples each, the unit of work, retry and resume."""

from dataclasses import dataclass

EXAMPLES_PER_PREDICTION_SHARD = 64
"""Examples of a shard that only predicts: a few full batches."""

EXAMPLES_PER_EXPLANATION_SHARD = 4
"""Examples of a shard that explains them, which costs hundreds of times as much."""


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


def split_into_shards(example_count: int, explained_count: int) -> list[Shard]:
    """The shards of a run whose first `explained_count` examples are explained.

    They follow from the run alone. Interruptions and the choice of the executor change no number.
    """
    starts = [
        *range(0, explained_count, EXAMPLES_PER_EXPLANATION_SHARD),
        *range(explained_count, example_count, EXAMPLES_PER_PREDICTION_SHARD),
    ]
    return [Shard(*ends) for ends in zip(starts, [*starts[1:], example_count], strict=True)]
