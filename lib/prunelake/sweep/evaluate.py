"""Evaluate one shard: its examples and a model to rows of predictions and explanations."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from prunelake.analysis.confidence import option_probabilities
from prunelake.evaluation.aopc_bounds import aopc_bounds
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.deletion_curves import ExplainedPrompt, deletion_curves
from prunelake.evaluation.predictions import predict
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.loading import ModelSource
from prunelake.schema.arrays import FloatArray
from prunelake.spec import Dtype, Explanation, SpecialTokens, Unit
from prunelake.sweep.plan import SweepPlan
from prunelake.sweep.shards import Shard
from prunelake.tasks.encoding import EncodedExample, Encoder

TableFrames = dict[str, pl.DataFrame]
StageProgress = Callable[[str, int, int], None]
"""Takes the name of a stage, the amount done and the total."""


@dataclass(frozen=True)
class ShardWork:
    """The examples of one shard and the settings that measure them; small enough to be sent.

    `explanation` is None if the shard only predicts.
    """

    shard: Shard
    run_id: str
    source: ModelSource
    dtype: Dtype
    unit: Unit
    special_tokens: SpecialTokens
    levels: tuple[int, ...]
    explanation: Explanation | None
    examples: tuple[EncodedExample, ...]


def shard_work(plan: SweepPlan, shard: Shard) -> ShardWork:
    """The part of a plan that one shard needs."""
    return ShardWork(
        shard,
        plan.identity.run_id,
        plan.source,
        plan.spec.dtype,
        plan.spec.strategy.unit,
        plan.spec.special_tokens,
        plan.levels,
        plan.explanation if shard.start < len(plan.explained_examples) else None,
        plan.examples[shard.start : shard.stop],
    )


def evaluate_shard(
    work: ShardWork, encoder: Encoder, model: NestedModel, report: StageProgress
) -> TableFrames:
    """The rows of one shard, by table.

    Every example gets predictions at all levels. Explained examples also get attributions and
    deletion curves and, if the spec asks for bounds, the least and the greatest area that a search
    finds for any ranking.

    Raises:
        ModelError: numbers that overflow, or too little memory for a single row.
    """
    predictions = predict(
        model, work.run_id, work.examples, work.levels, partial(report, "predict")
    )
    frames = {"predictions": predictions}
    explanation = work.explanation
    if explanation is None:
        return frames
    levels = explanation.levels or work.levels
    prompts = [explained_prompt(encoder, model, example) for example in work.examples]
    frames["attributions"] = compute_attributions(
        model, predictions, work.examples, levels, explanation, partial(report, "attribute")
    )
    frames["deletions"] = deletion_curves(
        frames["attributions"], predictions, prompts, explanation, partial(report, "delete")
    )
    if explanation.bounds_beam is not None:
        beam = explanation.bounds_beam
        frames["bounds"] = aopc_bounds(
            predictions, prompts, levels, beam, explanation, partial(report, "bound")
        )
    return frames


def explained_prompt(
    encoder: Encoder, model: NestedModel, example: EncodedExample
) -> ExplainedPrompt:
    """An example together with a function that asks the model about changed versions of it."""

    def ask(questions: Any) -> list[FloatArray]:
        queries = [
            ScoringQuery(encoder.context_ids(ids), example.options, levels)
            for ids, levels in questions
        ]
        return [option_probabilities(answer) for answer in model.log_likelihoods(queries)]

    return ExplainedPrompt(example.example.example_id, example.prompt, ask, encoder.retokenise)
