"""The progress of a sweep: examples done, tokens a second, time left."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from prunelake.evaluation.token_counts import explanation_token_counts
from prunelake.lake.partial_runs import ComputeCost
from prunelake.sweeps.evaluate import ShardWork, shard_work
from prunelake.sweeps.plan import SweepPlan
from prunelake.sweeps.shards import Shard
from prunelake.tasks.encoding import EncodedExample


@dataclass(frozen=True)
class Progress:
    """The state of a sweep.

    `share` is the finished share of the work, from 0 to 1. `text` is one line about speed and time
    left, and `short_text` fits beside a bar; both are empty before the first shard.
    """

    share: float
    text: str = ""
    short_text: str = ""


class ProgressMeter:
    """Measures the progress of a sweep while its shards finish.

    Work is counted in estimated tokens. The time left is the time of the remaining tokens at the
    average speed of this sweep.
    """

    def __init__(
        self, plan: SweepPlan, shards: Sequence[Shard], missing: Sequence[ShardWork]
    ) -> None:
        self._example_count = len(plan.examples)
        self._total = sum(estimate_token_count(shard_work(plan, shard)) for shard in shards)
        self._estimates = {work.shard: estimate_token_count(work) for work in missing}
        self._left = sum(self._estimates.values())
        self._examples_left = sum(len(work.examples) for work in missing)
        self._left_at_start, self._started = self._left, time.perf_counter()
        self._forward_tokens = 0.0

    @property
    def start(self) -> Progress:
        """The progress before the first shard of this sweep."""
        return Progress(1 - self._left_at_start / self._total)

    def add(self, shard: Shard, cost: ComputeCost) -> Progress:
        """Count a shard that has just finished."""
        self._left -= self._estimates[shard]
        self._examples_left -= shard.stop - shard.start
        self._forward_tokens += cost.forward_tokens
        share = 1 - self._left / self._total
        if self._left == self._left_at_start:  # until now, all cells were known
            return Progress(share)
        seconds = time.perf_counter() - self._started
        seconds_left = seconds * self._left / (self._left_at_start - self._left)
        done = f"{self._example_count - self._examples_left} of {self._example_count}"
        time_left = f"{timedelta(seconds=round(seconds_left))} left"
        return Progress(
            share,
            f"{done} examples, {self._forward_tokens / seconds:.0f} forward tokens a second; about "
            f"{time_left}",
            f"{done}, {time_left}",
        )


def estimate_token_count(work: ShardWork) -> float:
    """The approximate number of tokens in all prompts of a shard, counted once for each level.

    The known share of a table does not count.
    """
    tokens = Counter[str]()
    explanation = work.explanation
    for position, example in enumerate(work.examples):
        length = _sequence_length(example)
        tokens["predictions"] += len(work.levels) * length
        if position < work.text_count:
            context = len(example.prefix) + len(example.prompt)
            tokens["texts"] += len(work.levels) * (2 * context + work.new_tokens)
        if explanation is not None:
            level_count = len(explanation.levels or work.levels)
            tokens.update(
                explanation_token_counts(explanation, len(example.prompt), length, level_count)
            )
    return sum(tokens[name] * share for name, share in work.missing_shares.items())


def _sequence_length(example: EncodedExample) -> int:
    return len(example.prefix) + len(example.prompt) + sum(len(o) - 1 for o in example.options)
