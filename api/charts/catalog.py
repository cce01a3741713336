"""Every chart by name: what it shows, the question behind it, and how the answer is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from api import queries
from api.charts.correlations import correlations_chart
from api.charts.drawing import Chart
from api.charts.importance import importance_chart
from api.charts.levels import CONFIDENCE_PANELS, EXPLANATION_PANELS, levels_chart
from api.charts.reliability import reliability_chart
from api.findings import JUDGED
from api.query import Query
from api.subject import Subject
from prunelake.errors import NothingToShow

CORRELATED = (*JUDGED[1:], "mean_confidence", "flip_rate", "overlap_10")
"""The metrics whose correlation with accuracy a reader is shown."""


@dataclass(frozen=True)
class ChartKind:
    """One chart; `takes` are the parameters beside the run that change it: level, metric.

    `draw` raises NothingToShow where the run lacks what the chart shows.
    """

    name: str
    caption: str
    takes: tuple[str, ...]
    query: Callable[[Subject], Query]
    draw: Callable[[pl.DataFrame, Subject], Chart]

    def chart(self, rows: pl.DataFrame, subject: Subject) -> Chart:
        """The chart of the rows that `query` gives.

        Raises:
            NothingToShow: the run lacks what the chart shows.
        """
        if rows.is_empty():
            raise NothingToShow(f"run {subject.run_id} has nothing that chart {self.name} shows")
        return self.draw(rows, subject)


def usermeta(query: Query, snapshot: str) -> dict[str, Any]:
    """What a chart says of itself: the SQL that gives its numbers, and the snapshot they are of."""
    return {"prunelake": {"sql": query.text, "snapshot": snapshot}}


def _of_run(subject: Subject) -> Query:
    return queries.levels([subject.run_id])


def _confidence(rows: pl.DataFrame, subject: Subject) -> Chart:
    if rows.filter(metric="accuracy").drop_nulls("value").is_empty():
        raise NothingToShow(f"no accuracy of run {subject.run_id} could be computed")
    return levels_chart(rows, CONFIDENCE_PANELS)


def _explanations(rows: pl.DataFrame, subject: Subject) -> Chart:
    if rows.filter(metric="comprehensiveness").drop_nulls("value").is_empty():
        raise NothingToShow(
            f"run {subject.run_id} has predictions only; a sweep with --methods kernel_shap adds "
            "explanations"
        )
    return levels_chart(rows, EXPLANATION_PANELS)


def _correlations(rows: pl.DataFrame, subject: Subject) -> Chart:
    known = rows.filter(pl.col("metric").is_in(CORRELATED))
    if known.drop_nulls("spearman").is_empty():
        raise NothingToShow(f"no correlation with accuracy is defined in run {subject.run_id}")
    return correlations_chart(known)


def _importance(rows: pl.DataFrame, subject: Subject) -> Chart:
    return importance_chart(rows, max(subject.run["levels"]))


CHARTS = {
    kind.name: kind
    for kind in (
        ChartKind("confidence", "Accuracy and confidence over levels.", (), _of_run, _confidence),
        ChartKind(
            "explanations",
            "Accuracy and faithfulness of explanations over levels.",
            (),
            _of_run,
            _explanations,
        ),
        ChartKind(
            "reliability",
            "Reliability: accuracy against confidence, in 10 bins of confidence.",
            ("level",),
            lambda subject: queries.reliability(subject.run_id, subject.level),
            lambda rows, subject: reliability_chart(rows, subject.level),
        ),
        ChartKind(
            "correlations",
            "How each metric goes with accuracy over levels.",
            (),
            lambda subject: queries.correlations(subject.run_id),
            _correlations,
        ),
        ChartKind(
            "importance",
            "Importance of attention layers, and the order in which they go.",
            (),
            lambda subject: queries.layers(subject.run_id),
            _importance,
        ),
    )
}
