"""The rows of `runs`, `layers` and `examples`, from a plan, a removal order and costs."""

from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from prunelake.lake.partial_runs import ComputeCost
from prunelake.schema.run_tables import EXAMPLES, LAYERS
from prunelake.spec import number_format
from prunelake.strategies.removal_order import RemovalOrder
from prunelake.sweeps.plan import SweepPlan


def layer_rows(run_id: str, order: RemovalOrder) -> pl.DataFrame:
    """Rows of `layers`."""
    rank = {layer: rank for rank, layer in enumerate(order.layers)}
    return LAYERS.frame(
        [
            {"run_id": run_id, "layer": layer, "importance": importance, "rank": rank[layer]}
            for layer, importance in enumerate(order.importance)
        ]
    )


def order_from_layers(layers: pl.DataFrame) -> RemovalOrder:
    """The removal order that rows of `layers` describe."""
    return RemovalOrder(
        tuple(layers.sort("rank")["layer"]), tuple(layers.sort("layer")["importance"])
    )


def example_rows(plan: SweepPlan) -> pl.DataFrame:
    """Rows of `examples`."""
    return EXAMPLES.frame(
        [
            {
                "run_id": plan.identity.run_id,
                "example_id": example.example.example_id,
                "position": position,
                "prompt": example.example.prompt,
                "options": [*example.example.options],
                "gold": example.example.gold,
                "prompt_tokens": [*example.token_texts],
            }
            for position, example in enumerate(plan.examples)
        ]
    )


def run_row(plan: SweepPlan, order: RemovalOrder, costs: list[ComputeCost]) -> dict[str, Any]:
    """The row of `runs`; `costs` are the costs of its removal order and of all its shards."""
    spec = plan.spec
    return {
        "run_id": plan.identity.run_id,
        "created_at": datetime.now(UTC),
        "model": spec.model,
        "revision": plan.source.revision,
        "architecture": plan.source.architecture,
        "strategy": spec.strategy.label,
        "task": spec.task_name,
        "split": plan.split,
        "example_count": len(plan.examples),
        "levels": [*plan.levels],
        "layer_count": plan.source.layer_count,
        "removal_order": [*order.layers],
        "dtype": number_format(plan.source.quantisation, spec.dtype),
        "device": ", ".join(sorted({cost.device for cost in costs if cost.device})) or "copied",
        "code_version": version("prunelake"),
        "spec": spec.model_dump_json(),
        "identity": plan.identity.model_dump_json(),
        "duration_s": sum(cost.duration_s for cost in costs),
        "forward_tokens": round(sum(cost.forward_tokens for cost in costs)),
        "copied": _copied_cells(costs),
    }


def _copied_cells(costs: list[ComputeCost]) -> list[dict[str, Any]]:
    """The column `copied`: the sums over the removal order and all shards."""
    counts: Counter[tuple[str, str]] = Counter()
    for cost in costs:
        for copied in cost.copied:
            counts[copied.run_id, copied.table] += copied.cells
    return [
        {"run_id": run_id, "table": table, "cells": cells}
        for (run_id, table), cells in sorted(counts.items())
    ]
