"""Rows of `runs`, `layers` and `examples`: a sweep apart from its measurements."""

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from prunelake.lake.partial_runs import ComputeCost
from prunelake.schema.run_tables import EXAMPLES, LAYERS
from prunelake.strategies.importance import RemovalOrder
from prunelake.sweep.plan import SweepPlan


def layer_rows(run_id: str, order: RemovalOrder) -> pl.DataFrame:
    """Rows of `layers`."""
    rank = {layer: place for place, layer in enumerate(order.layers)}
    return LAYERS.frame(
        [
            {"run_id": run_id, "layer": layer, "importance": importance, "rank": rank[layer]}
            for layer, importance in enumerate(order.importance)
        ]
    )


def order_from_layers(layers: pl.DataFrame) -> RemovalOrder:
    """The removal order that rows of `layers` tell."""
    return RemovalOrder(
        tuple(layers.sort("rank")["layer"]), tuple(layers.sort("layer")["importance"])
    )


def example_rows(work: SweepPlan) -> pl.DataFrame:
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
                "prompt_tokens": [*encoded.token_texts],
            }
            for position, encoded in enumerate(work.examples)
        ]
    )


def run_row(work: SweepPlan, order: RemovalOrder, costs: list[ComputeCost]) -> dict[str, Any]:
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
