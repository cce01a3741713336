"""The stages of a sweep, composed: a plan and a model to the rows of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prunelake.evaluation.aopc_bounds import aopc_bounds
from prunelake.evaluation.attributions import attribute
from prunelake.evaluation.deletion_curves import Prompt, deletion_curves
from prunelake.evaluation.predictions import predict, probabilities
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import Query
from prunelake.models.loading import ModelSource
from prunelake.spec import Dtype, Explanation, SpecialTokens, Unit
from prunelake.sweep.plan import Plan
from prunelake.sweep.shards import Shard
from prunelake.tasks.encoding import Encoded, Encoder

Frames = dict[str, pl.DataFrame]
Report = Callable[[str, int, int], None]
"""Told the stage, and how much of how much is done."""


@dataclass(frozen=True)
class Part:
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
    examples: tuple[Encoded, ...]


def part(work: Plan, shard: Shard) -> Part:
    """What the measuring of one shard takes of a plan."""
    return Part(
        shard,
        work.identity.run_id,
        work.source,
        work.spec.dtype,
        work.spec.strategy.unit,
        work.spec.special_tokens,
        work.levels,
        work.explanation if shard.start < len(work.explained) else None,
        work.examples[shard.start : shard.stop],
    )


def evaluate(work: Part, encoder: Encoder, model: NestedModel, report: Report) -> Frames:
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
    prompts = [prompt(encoder, model, encoded) for encoded in work.examples]
    found["attributions"] = attribute(
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


def prompt(encoder: Encoder, model: NestedModel, encoded: Encoded) -> Prompt:
    """One example as the scores of explanations see it: how to ask the model about it, changed."""

    def ask(questions: Any) -> list[NDArray[np.float64]]:
        queries = [
            Query(encoder.context(ids), encoded.options, levels) for ids, levels in questions
        ]
        return [probabilities(answer) for answer in model.log_likelihoods(queries)]

    return Prompt(encoded.example.example_id, encoded.prompt, ask, encoder.retokenised)
