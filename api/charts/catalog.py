"""Every chart by name: what it shows, the question behind it, and how the answer is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.analysis.recalibration import RECALIBRATED_METRICS
from prunelake.errors import NothingToShow
from prunelake.lake.bound_query import BoundQuery
from prunelake.schema.metrics import METRIC_DEFINITIONS

from ..findings.level_rows import JUDGED_METRICS
from ..findings.selection import Selection
from ..findings.wording import label
from ..queries import charts, comparisons, run_metrics
from .accuracy_path import path_chart
from .correlation_matrix import matrix_chart
from .correlations import correlations_chart
from .cost import cost_chart
from .deltas import deltas_chart
from .drawing import Chart
from .flips import flips_chart
from .importance import importance_chart
from .levels import CONFIDENCE_PANELS, EXPLANATION_PANELS, levels_chart
from .overlap import overlap_chart
from .pareto import pareto_chart
from .recalibration import recalibration_chart
from .reliability import reliability_chart
from .verdict_map import verdict_map

CORRELATED_METRICS = (*JUDGED_METRICS[1:], "mean_confidence", "flip_rate", "overlap_10")
"""The metrics whose correlation with accuracy a reader is shown."""


@dataclass(frozen=True)
class ChartDefinition:
    """One chart; `takes` are the parameters beside the run that change it: level, metric.

    `draw` raises NothingToShow where the run lacks what the chart shows; `needs` are the rows that
    it is drawn from.
    """

    name: str
    caption: str
    takes: tuple[str, ...]
    query: Callable[[Selection], BoundQuery]
    draw: Callable[[pl.DataFrame, Selection], Chart]
    needs: str = "metrics"

    def chart(self, rows: pl.DataFrame, subject: Selection) -> Chart:
        """The chart of the rows that `query` gives.

        Raises:
            NothingToShow: the run lacks what the chart shows.
        """
        if rows.is_empty():
            raise NothingToShow(
                f"run {subject.run_id} has no {self.needs}, which chart {self.name} is drawn from"
            )
        return self.draw(rows, subject)


def usermeta(query: BoundQuery, snapshot: str) -> dict[str, Any]:
    """What a chart says of itself: the SQL that gives its numbers, and the snapshot they are of."""
    return {"prunelake": {"sql": query.sql_with_values, "snapshot": snapshot}}


def _of_run(subject: Selection) -> BoundQuery:
    return run_metrics.headline_metrics([subject.run_id])


def _levels(rows: pl.DataFrame, subject: Selection) -> Chart:
    return levels_chart(rows, _with_accuracy(rows, subject, "value"))


def _deltas(rows: pl.DataFrame, subject: Selection) -> Chart:
    above = rows.filter(pl.col("level") > 0)
    return deltas_chart(rows, _with_accuracy(above, subject, "delta"))


def _with_accuracy(rows: pl.DataFrame, subject: Selection, column: str) -> list[str]:
    """Accuracy and the subject's metric, each of which has some value in a column."""
    metrics = list(dict.fromkeys(["accuracy", subject.metric]))
    for metric in metrics:
        if rows.filter(metric=metric).drop_nulls(column).is_empty():
            raise NothingToShow(f"run {subject.run_id} has no {column} of {label(metric)}")
    return metrics


def _verdicts(rows: pl.DataFrame, subject: Selection) -> Chart:
    if rows.filter(pl.col("metric").is_in(JUDGED_METRICS)).drop_nulls("verdict").is_empty():
        raise NothingToShow(
            f"run {subject.run_id} has no verdicts: they need examples, and a level above 0"
        )
    return verdict_map(rows)


def _path(rows: pl.DataFrame, subject: Selection) -> Chart:
    if subject.metric == "accuracy":
        raise NothingToShow("a path sets accuracy against another metric; add metric=nll")
    return path_chart(rows, subject.metric, subject.level)


def _confidence(rows: pl.DataFrame, subject: Selection) -> Chart:
    if rows.filter(metric="accuracy").drop_nulls("value").is_empty():
        raise NothingToShow(f"no accuracy of run {subject.run_id} could be computed")
    return levels_chart(rows, CONFIDENCE_PANELS)


def _explanations(rows: pl.DataFrame, subject: Selection) -> Chart:
    if rows.filter(metric="comprehensiveness").drop_nulls("value").is_empty():
        raise NothingToShow(
            f"run {subject.run_id} has predictions only; a sweep with --methods kernel_shap adds "
            "explanations"
        )
    return levels_chart(rows, EXPLANATION_PANELS)


def _recalibration(rows: pl.DataFrame, subject: Selection) -> Chart:
    if subject.metric not in RECALIBRATED_METRICS:
        raise NothingToShow(
            f"recalibration does not change {label(subject.metric)}; add metric="
            f"{', '.join(RECALIBRATED_METRICS)}"
        )
    if rows["value"].null_count() == rows.height:
        raise NothingToShow(f"run {subject.run_id} is not recalibrated: {rows['note'][0]}")
    return recalibration_chart(rows, subject.metric, subject.level)


def _correlations(rows: pl.DataFrame, subject: Selection) -> Chart:
    known = rows.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if known.drop_nulls("spearman").is_empty():
        raise NothingToShow(f"no correlation with accuracy is defined in run {subject.run_id}")
    return correlations_chart(known)


def _correlation_matrix(rows: pl.DataFrame, subject: Selection) -> Chart:
    known = rows.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if known.drop_nulls("spearman").is_empty():
        raise NothingToShow(
            "no correlation with accuracy is defined in any task of the model and strategy of run "
            f"{subject.run_id}"
        )
    return matrix_chart(known)


def _overlap(rows: pl.DataFrame, subject: Selection) -> Chart:
    if rows.filter(pl.col("level") > 0, other_level=0).is_empty():
        raise NothingToShow(f"run {subject.run_id} explains no pruned level")
    return overlap_chart(rows)


def _flips(rows: pl.DataFrame, subject: Selection) -> Chart:
    if rows.filter(pl.col("level") > 0).drop_nulls("flip_rate").is_empty():
        raise NothingToShow(f"run {subject.run_id} has no pruned level to set beside level 0")
    return flips_chart(rows, subject.level)


def _pareto(rows: pl.DataFrame, subject: Selection) -> Chart:
    if METRIC_DEFINITIONS[subject.metric].higher_is_better is None:
        raise NothingToShow(
            f"no value of {subject.metric} is better than another; give a metric with a direction"
        )
    if rows.filter(metric="accuracy").is_empty():
        raise NothingToShow(f"no accuracy of run {subject.run_id} could be computed")
    return pareto_chart(rows, subject.metric)


def _cost(rows: pl.DataFrame, subject: Selection) -> Chart:
    if rows.filter(pl.col("level") > 0).is_empty():
        raise NothingToShow(f"no pruned level of run {subject.run_id} was profiled")
    return cost_chart(rows, subject.level)


def _importance(rows: pl.DataFrame, subject: Selection) -> Chart:
    return importance_chart(rows, max(subject.run["levels"]))


CHARTS = {
    kind.name: kind
    for kind in (
        ChartDefinition(
            "levels", "Accuracy and a metric over levels.", ("metric",), _of_run, _levels
        ),
        ChartDefinition(
            "deltas",
            "How far accuracy and a metric go from the unpruned model, level by level.",
            ("metric",),
            _of_run,
            _deltas,
        ),
        ChartDefinition(
            "verdicts",
            "What the tests say of each metric at each level.",
            (),
            _of_run,
            _verdicts,
        ),
        ChartDefinition(
            "path",
            "The path through accuracy and a metric, level after level.",
            ("metric", "level"),
            lambda subject: charts.accuracy_path(subject.run_id, subject.metric),
            _path,
        ),
        ChartDefinition(
            "confidence", "Accuracy and confidence over levels.", (), _of_run, _confidence
        ),
        ChartDefinition(
            "explanations",
            "Accuracy and faithfulness of explanations over levels.",
            (),
            _of_run,
            _explanations,
        ),
        ChartDefinition(
            "reliability",
            "Reliability: accuracy against confidence, in 10 bins of confidence.",
            ("level",),
            lambda subject: charts.reliability(subject.run_id, subject.level),
            lambda rows, subject: reliability_chart(rows, subject.level),
            "predictions of single examples",
        ),
        ChartDefinition(
            "recalibration",
            "A metric of confidence before and after recalibration, level by level.",
            ("metric", "level"),
            lambda subject: charts.recalibration(subject.run_id, subject.metric),
            _recalibration,
            "predictions of single examples",
        ),
        ChartDefinition(
            "correlations",
            "How each metric goes with accuracy over levels.",
            (),
            lambda subject: run_metrics.correlations(subject.run_id),
            _correlations,
            "correlations",
        ),
        ChartDefinition(
            "correlation_matrix",
            "How each metric goes with accuracy in every task of the model.",
            (),
            lambda subject: comparisons.correlation_matrix(subject.run_id),
            _correlation_matrix,
            "correlations",
        ),
        ChartDefinition(
            "overlap",
            "Overlap of the top 10 tokens between the explanations of any two levels.",
            (),
            lambda subject: charts.overlap_matrix(subject.run_id),
            _overlap,
            "explanations of single examples",
        ),
        ChartDefinition(
            "flips",
            "Predictions that pruning changed, and whether that did harm.",
            ("level",),
            lambda subject: charts.flips(subject.run_id),
            _flips,
            "predictions of single examples",
        ),
        ChartDefinition(
            "pareto",
            "What a level costs in attention layers against what it is worth.",
            ("metric",),
            lambda subject: comparisons.pareto_points(subject.run_id, subject.metric),
            _pareto,
        ),
        ChartDefinition(
            "cost",
            "What a level saves: speed, weights, KV cache and peak memory.",
            ("level",),
            lambda subject: charts.efficiency(subject.run_id),
            _cost,
            "measured cost (prunelake profile measures it)",
        ),
        ChartDefinition(
            "importance",
            "Importance of attention layers, and the order in which they go.",
            (),
            lambda subject: charts.layer_importance(subject.run_id),
            _importance,
            "importance of layers",
        ),
    )
}
