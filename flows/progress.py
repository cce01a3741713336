"""How far a sweep is: examples done, tokens a second, time left."""

import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.evaluation.attributions import masked_prompt_count
from prunelake.evaluation.deletion_curves import perturbed_prompt_count
from prunelake.lake.partial_runs import ComputeCost
from prunelake.sweep.plan import SweepPlan
from prunelake.sweep.shards import Shard
from prunelake.tasks.encoding import EncodedExample

ShardCallback = Callable[[Shard, ComputeCost], None]


def progress_reporter(
    work: SweepPlan, shards: Sequence[Shard], missing: Collection[Shard]
) -> ShardCallback:
    """Shows an artifact of the run's progress, and logs it as each shard is finished.

    The time left is that of the tokens which are left, at the speed of this sweep so far.
    """
    logger = get_run_logger()
    total = sum(estimate_token_count(work, shard) for shard in shards)
    left = sum(estimate_token_count(work, shard) for shard in missing)
    examples_left = sum(shard.stop - shard.start for shard in missing)
    begun_with, began, forward_tokens = left, time.perf_counter(), 0.0
    artifact = create_progress_artifact(
        progress=100.0 * (1 - left / total),
        description=f"Run {work.identity.run_id}: {len(shards)} shards",
    )

    def finished(shard: Shard, cost: ComputeCost) -> None:
        nonlocal left, examples_left, forward_tokens
        left -= estimate_token_count(work, shard)
        examples_left -= shard.stop - shard.start
        forward_tokens += cost.forward_tokens
        seconds = time.perf_counter() - began
        update_progress_artifact(artifact, progress=100.0 * (1 - left / total))  # type: ignore[arg-type]  # annotated as UUID, given one
        logger.info(
            "%d of %d examples, %.0f forward tokens a second; about %s left",
            len(work.examples) - examples_left,
            len(work.examples),
            forward_tokens / seconds,
            timedelta(seconds=round(seconds * left / (begun_with - left))),
        )

    return finished


def estimate_token_count(work: SweepPlan, shard: Shard) -> int:
    """About how many tokens the model is asked about for a shard, each level counted."""
    examples = work.examples[shard.start : shard.stop]
    tokens = sum(len(work.levels) * _sequence_length(encoded) for encoded in examples)
    explanation = work.explanation
    if explanation is None:
        return tokens
    level_count = len(explanation.levels or work.levels)
    for encoded in work.explained_examples[shard.start : shard.stop]:
        count = len(encoded.prompt)
        asked = masked_prompt_count(explanation, count) + perturbed_prompt_count(explanation, count)
        tokens += level_count * asked * _sequence_length(encoded)
        if beam := explanation.bounds_beam:
            tokens += max_perturbed_prompt_count(
                [count], level_count, beam, explanation
            ) * _sequence_length(encoded)
    return tokens


def _sequence_length(encoded: EncodedExample) -> int:
    return len(encoded.prefix) + len(encoded.prompt) + sum(len(o) - 1 for o in encoded.options)
