"""The stages of a sweep, composed: a plan and a model to the rows of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from prunelake.attribute import attribute
from prunelake.bounds import aopc_bounds
from prunelake.encoding import Encoded, Encoder
from prunelake.faithfulness import Prompt, deletion_curves
from prunelake.importance import RemovalOrder
from prunelake.layout import Query
from prunelake.models import ModelSource
from prunelake.nested import NestedModel
from prunelake.plan import Plan
from prunelake.predict import predict, probabilities
from prunelake.shards import Cost, Shard
from prunelake.spec import Dtype, Explanation, SpecialTokens, Unit
from prunelake.tables import EXAMPLES, LAYERS

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


def layer_rows(run_id: str, order: RemovalOrder) -> pl.DataFrame:
    """Rows of `layers`."""
    rank = {layer: place for place, layer in enumerate(order.layers)}
    return LAYERS.frame(
        [
            {"run_id": run_id, "layer": layer, "importance": importance, "rank": rank[layer]}
            for layer, importance in enumerate(order.importance)
        ]
    )


def order_of(layers: pl.DataFrame) -> RemovalOrder:
    """The removal order that rows of `layers` tell."""
    return RemovalOrder(
        tuple(layers.sort("rank")["layer"]), tuple(layers.sort("layer")["importance"])
    )


def example_rows(work: Plan) -> pl.DataFrame:
    """Rows of `examples`."""
    return EXAMPLES.frame(
        [
            {
                "run_id": work.identity.run_id,
                "example_id": encoded.example.example_id,
                "position": position,
                "prompt": encoded.example.prompt,
                "options": [*encoded.example.options],
                "gold": encoded.example.gold,
                "prompt_tokens": [*encoded.texts],
            }
            for position, encoded in enumerate(work.examples)
        ]
    )


def run_row(work: Plan, order: RemovalOrder, costs: list[Cost]) -> dict[str, Any]:
    """The row of `runs`; `costs` are those of its removal order and of all its shards."""
    spec = work.spec
    return {
        "run_id": work.identity.run_id,
        "created_at": datetime.now(UTC),
        "model": spec.model,
        "revision": work.source.revision,
        "architecture": work.source.architecture,
        "strategy": spec.strategy.label,
        "task": spec.task_name,
        "split": work.split,
        "example_count": len(work.examples),
        "levels": [*work.levels],
        "layer_count": work.source.layer_count,
        "removal_order": [*order.layers],
        "dtype": spec.dtype,
        "device": ", ".join(sorted({cost.device for cost in costs})),
        "code_version": version("prunelake"),
        "spec": spec.model_dump_json(),
        "identity": work.identity.model_dump_json(),
        "duration_s": sum(cost.duration_s for cost in costs),
        "forward_tokens": round(sum(cost.forward_tokens for cost in costs)),
    }
