"""The differences of a run from its level 0, and the row that a criterion limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.gate.criterion import Criterion
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.schema.table import METRIC_KEY

Row = Mapping[str, Any]

USUAL_CHOICES = {"operator": ("delete_text", None), "variant": ("eraser", None)}
"""The explanations that count if a criterion does not name them, as in the view `headlines`."""


def differences(connection: Connection, levels: Sequence[int]) -> Sequence[Row]:
    """The rows of `deltas` and `recalibration` at these levels, for the runs of the connection.

    `is_headline`: the row represents its metric. The variant of a recalibrated metric is its
    calibrator.
    """
    return BoundQuery(
        """
        select
            deltas.*,
            keys.run_id is not null as is_headline
        from deltas
        left join headline_keys as keys
            on
                deltas.run_id = keys.run_id
                and deltas.metric = keys.metric
                and deltas.method is not distinct from keys.method
                and deltas.operator is not distinct from keys.operator
                and deltas.variant is not distinct from keys.variant
        where
            list_contains($levels, deltas.level)
            and deltas.method is distinct from 'random'
            -- The tests of a recalibrated metric are in the view recalibration.
            and (deltas.method is not null or deltas.variant is null)
        union all by name
        select
            recalibration.run_id,
            recalibration.level,
            recalibration.metric,
            recalibration.calibrator as variant,
            recalibration.unpruned_value,
            recalibration.value,
            recalibration.delta,
            recalibration.delta_low,
            recalibration.delta_high,
            recalibration.delta_se,
            recalibration.equivalence_low,
            recalibration.equivalence_high,
            recalibration.n,
            recalibration.note,
            true as is_tested,
            false as is_headline
        from recalibration
        where list_contains($levels, recalibration.level)
        """,
        levels=list(levels),
    ).records(connection)


def correct_answers(connection: Connection, levels: Sequence[int]) -> pl.DataFrame:
    """level x example: whether the candidate and level 0 are right, and the example's position."""
    return BoundQuery(
        """
        select
            candidate.level,
            examples.position,
            candidate.is_correct,
            candidate.is_correct_norm,
            unpruned.is_correct as unpruned_is_correct,
            unpruned.is_correct_norm as unpruned_is_correct_norm
        from scored_predictions as candidate
        inner join scored_predictions as unpruned
            on
                candidate.run_id = unpruned.run_id
                and candidate.example_id = unpruned.example_id
                and unpruned.level = 0
        left join examples
            on
                candidate.run_id = examples.run_id
                and candidate.example_id = examples.example_id
        where list_contains($levels, candidate.level)
        """,
        levels=list(levels),
    ).rows(connection)


def limited_row(rows: Sequence[Row], criterion: Criterion, level: int) -> Row | str:
    """The row that a criterion limits, or the reason why there is none.

    A row must have the method, operator and variant that the criterion names. If there are several
    rows, the row that represents the metric counts, or else the row with the usual operator and
    variant.
    """
    of_metric = [row for row in rows if row["level"] == level and row["metric"] == criterion.metric]
    if not of_metric:
        return f"the run has no {criterion.metric} at this level"
    named = {name: value for name in METRIC_KEY[1:] if (value := getattr(criterion, name))}
    matching = [row for row in of_metric if all(row[name] == named[name] for name in named)]
    if not named:
        matching = [row for row in matching if row["is_headline"]]
    for name, values in USUAL_CHOICES.items():
        if len(matching) > 1 and name not in named:
            matching = [row for row in matching if row[name] in values] or matching
    if len(matching) == 1:
        return matching[0]
    known = sorted({_described(row) for row in of_metric})
    asked = f"for {', '.join(named.values())}" if named else "that represents the metric"
    count = len(matching) or "no"
    return f"the run has {count} values {asked}; it has {'; '.join(known)}"


def _described(row: Row) -> str:
    chosen = [row[name] for name in METRIC_KEY[1:] if row[name] is not None]
    return ", ".join(chosen) or "a value without explanations and calibrator"
