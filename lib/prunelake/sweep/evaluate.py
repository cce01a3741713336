"""The stages of a sweep, composed: a plan and a model to the rows of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from prunelake.evaluation.aopc_bounds import aopc_bounds
from prunelake.evaluation.attributions import compute_attributions
from prunelake.evaluation.deletion_curves import ExplainedPrompt, deletion_curves
from prunelake.evaluation.predictions import option_probabilities, predict
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
"""Told the stage, and how much of how much is done."""


@dataclass(frozen=True)
class ShardWork:
    """The examples of one shard and how they are measured: small, and enough for who measures them.

    `explanation` is None where none of them is explained.
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


def shard_work(work: SweepPlan, shard: Shard) -> ShardWork:
    """What the measuring of one shard takes of a plan."""
    return ShardWork(
        shard,
        work.identity.run_id,
        work.source,
        work.spec.dtype,
        work.spec.strategy.unit,
        work.spec.special_tokens,
        work.levels,
        work.explanation if shard.start < len(work.explained_examples) else None,
        work.examples[shard.start : shard.stop],
    )


def evaluate_shard(
    work: ShardWork, encoder: Encoder, model: NestedModel, report: StageProgress
) -> TableFrames:
    """What is measured on the examples of one shard: its rows of the tables, where it has any.

    Predictions at all levels, and where they are explained attributions, deletion curves and, where
    the spec asks for them, the least and the greatest area that any ranking reaches.
    """
    predictions = predict(
        model, work.run_id, work.examples, work.levels, partial(report, "predict")
    )
    found = {"predictions": predictions}
    explanation = work.explanation
    if explanation is None:
        return found
    levels = explanation.levels or work.levels
    prompts = [explained_prompt(encoder, model, encoded) for encoded in work.examples]
    found["attributions"] = compute_attributions(
        model, predictions, work.examples, levels, explanation, partial(report, "attribute")
    )
    found["deletions"] = deletion_curves(
        found["attributions"], predictions, prompts, explanation, partial(report, "delete")
    )
    if explanation.bounds_beam is not None:
        beam = explanation.bounds_beam
        found["bounds"] = aopc_bounds(
            predictions, prompts, levels, beam, explanation, partial(report, "bound")
        )
    return found


def explained_prompt(
    encoder: Encoder, model: NestedModel, encoded: EncodedExample
) -> ExplainedPrompt:
    """One example as the scores of explanations see it: how to ask the model about it, changed."""

    def ask(questions: Any) -> list[FloatArray]:
        queries = [
            ScoringQuery(encoder.context_ids(ids), encoded.options, levels)
            for ids, levels in questions
        ]
        return [option_probabilities(answer) for answer in model.log_likelihoods(queries)]

    return ExplainedPrompt(encoded.example.example_id, encoded.prompt, ask, encoder.retokenise)
