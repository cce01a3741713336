"""The progress of a sweep: examples done, tokens a second, time left."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from prunelake.evaluation.token_counts import explanation_token_count
from prunelake.lake.partial_runs import ComputeCost
from prunelake.sweep.plan import SweepPlan
from prunelake.sweep.shards import Shard
from prunelake.tasks.encoding import EncodedExample


@dataclass(frozen=True)
class Progress:
    """The state of a sweep.

    `share` of the work is done, from 0 to 1. `text` is one line about speed and time left; it is
    empty before the first shard.
    """

    share: float
    text: str = ""


class ProgressMeter:
    """Measures the progress of a sweep while its shards come in.

    Work is counted in estimated tokens. The time left is the time that the remaining tokens take at
    the average speed of this sweep.
    """

    def __init__(
        self, plan: SweepPlan, shards: Sequence[Shard], missing: Collection[Shard]
    ) -> None:
        self._plan = plan
        self._total = sum(estimate_token_count(plan, shard) for shard in shards)
        self._left = sum(estimate_token_count(plan, shard) for shard in missing)
        self._examples_left = sum(shard.stop - shard.start for shard in missing)
        self._left_at_start, self._started = self._left, time.perf_counter()
        self._forward_tokens = 0.0

    @property
    def start(self) -> Progress:
        """The progress before the first shard of this sweep."""
        return Progress(1 - self._left_at_start / self._total)

    def add(self, shard: Shard, cost: ComputeCost) -> Progress:
        """Count a shard that has just been computed."""
        self._left -= estimate_token_count(self._plan, shard)
        self._examples_left -= shard.stop - shard.start
        self._forward_tokens += cost.forward_tokens
        seconds = time.perf_counter() - self._started
        count = len(self._plan.examples)
        seconds_left = seconds * self._left / (self._left_at_start - self._left)
        return Progress(
            1 - self._left / self._total,
            f"{count - self._examples_left} of {count} examples, "
            f"{self._forward_tokens / seconds:.0f} forward tokens a second; about "
            f"{timedelta(seconds=round(seconds_left))} left",
        )


def estimate_token_count(plan: SweepPlan, shard: Shard) -> int:
    """The number of tokens in all prompts of a shard, about, counted once for each level."""
    examples = plan.examples[shard.start : shard.stop]
    tokens = sum(len(plan.levels) * _sequence_length(example) for example in examples)
    explanation = plan.explanation
    if explanation is None:
        return tokens
    level_count = len(explanation.levels or plan.levels)
    for example in plan.explained_examples[shard.start : shard.stop]:
        tokens += explanation_token_count(
            explanation, len(example.prompt), _sequence_length(example), level_count
        )
    return tokens


def _sequence_length(example: EncodedExample) -> int:
    return len(example.prefix) + len(example.prompt) + sum(len(o) - 1 for o in example.options)
