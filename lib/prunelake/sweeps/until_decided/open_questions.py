"""The questions that a round of a sweep leaves open, from its verdicts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.schema.metrics import FAITHFULNESS_METRICS
from prunelake.schema.verdicts import Verdict
from prunelake.sweeps.until_decided.rounds import OpenQuestions

ROW_METRICS = ("accuracy", "ece")


def open_questions(
    verdicts: Sequence[Mapping[str, Any]], open_cells: Collection[tuple[int, str]]
) -> OpenQuestions:
    """The open questions of a round, from its verdicts and its open cells."""
    lost = lost_levels(verdicts)
    return OpenQuestions(
        rows=any(metric in ROW_METRICS for _, metric in open_cells),
        levels={level for level, metric in open_cells if metric in FAITHFULNESS_METRICS},
        lost=lost,
        border=max({row["level"] for row in verdicts} - lost, default=0),
    )


def lost_levels(verdicts: Sequence[Mapping[str, Any]]) -> set[int]:
    """The levels that have lost accuracy."""
    return {
        row["level"]
        for row in verdicts
        if row["metric"] == "accuracy" and row["verdict"] == Verdict.visible_degradation
    }


def verdicts_on_criteria(
    connection: Connection, run_id: str, margin: float
) -> Sequence[Mapping[str, Any]]:
    """The verdicts on the four criteria of a run at this margin, by level."""
    return BoundQuery(
        """
        select
            verdicts.level,
            verdicts.metric,
            verdicts.verdict
        from verdicts_at(
            accuracy_margin := $margin, metric_margin := $margin, run_ids := [$run_id]
        ) as verdicts
        inner join headline_keys as keys
            on
                verdicts.run_id = keys.run_id
                and verdicts.metric = keys.metric
                and verdicts.method is not distinct from keys.method
                and verdicts.operator is not distinct from keys.operator
                and verdicts.variant is not distinct from keys.variant
        where list_contains($metrics, verdicts.metric) and verdicts.verdict is not null
        order by verdicts.level, verdicts.metric
        """,
        margin=margin,
        run_id=run_id,
        metrics=[*ROW_METRICS, *FAITHFULNESS_METRICS],
    ).records(connection)
