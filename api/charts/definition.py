"""The definition of a chart: its caption, its query, and the function that draws it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.errors import NothingToShow
from prunelake.lake.sql.bound_query import BoundQuery

from ..findings.level_names import LevelNames
from ..findings.selection import Selection
from ..findings.wording import label
from ..queries import run_metrics
from .drawing.axis_titles import count_parts
from .drawing.vega_lite import Part

NO_CORRELATION = "they have no order, so nothing is correlated over them"
"""The reason why a comparison has no chart of correlations."""


@dataclass(frozen=True)
class ChartDefinition:
    """One chart; `takes` lists the parameters that change it besides the run: level, metric.

    `draw` raises NothingToShow if the run lacks the data. `needs` names the data in the error.
    `not_for_candidates` is the reason why a comparison has no such chart, if it has none.
    `candidate_caption` is the caption in a comparison, if it differs.
    """

    name: str
    caption: str
    takes: tuple[str, ...]
    query: Callable[[Selection], BoundQuery]
    draw: Callable[[pl.DataFrame, Selection], Part]
    needs: str = "metrics"
    not_for_candidates: str | None = None
    candidate_caption: str | None = None

    def caption_for(self, names: LevelNames) -> str:
        """The caption of the chart of a run with these levels."""
        return (self.candidate_caption if names.is_comparison else None) or self.caption

    def chart(self, rows: pl.DataFrame, selection: Selection) -> Part:
        """The chart of the rows of `query`.

        Raises:
            NothingToShow: the run lacks the data of the chart.
        """
        if self.not_for_candidates and selection.names.is_comparison:
            raise NothingToShow(
                f"run {selection.run_id} compares candidates: {self.not_for_candidates}"
            )
        if rows.is_empty():
            raise NothingToShow(
                f"run {selection.run_id} has no {self.needs}, which chart {self.name} needs"
            )
        chart = self.draw(rows, selection)
        count_parts(chart, selection.run.get("strategy") or "")
        return chart


def usermeta(query: BoundQuery, snapshot: str) -> dict[str, Any]:
    """The metadata of a chart: the SQL behind its numbers, and the id of its snapshot."""
    return {"prunelake": {"sql": query.sql_with_values, "snapshot": snapshot}}


def headline_metrics(selection: Selection) -> BoundQuery:
    """The query of a chart that draws the headline metrics of its run."""
    return run_metrics.headline_metrics([selection.run_id])


def with_accuracy(rows: pl.DataFrame, selection: Selection, column: str) -> list[str]:
    """Accuracy and the selected metric.

    Raises:
        NothingToShow: one of them has no value in the column.
    """
    metrics = list(dict.fromkeys(["accuracy", selection.metric]))
    for metric in metrics:
        if rows.filter(metric=metric).drop_nulls(column).is_empty():
            raise NothingToShow(f"run {selection.run_id} has no {column} of {label(metric)}")
    return metrics
