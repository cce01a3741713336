"""Every chart by name."""

import polars as pl

from prunelake.errors import NothingToShow
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.schema.calibrators import RECALIBRATED_METRICS
from prunelake.schema.metrics import METRIC_DEFINITIONS

from ..findings.level_rows import JUDGED_METRICS
from ..findings.selection import Selection
from ..findings.wording import label
from ..queries import charts, comparisons, run_metrics
from .accuracy_path import path_chart
from .candidate_points import candidate_path_chart, candidate_size_chart
from .correlation_matrix import matrix_chart
from .correlations import correlations_chart
from .cost import cost_chart
from .definition import ChartDefinition
from .deltas import deltas_chart
from .drawing.vega_lite import Part
from .flips import flips_chart
from .importance import chart_of_importance
from .levels import CONFIDENCE_PANELS, EXPLANATION_PANELS, levels_chart
from .overlap import overlap_chart
from .pareto import pareto_chart
from .recalibration import recalibration_chart
from .reliability import reliability_chart
from .verdict_map import verdict_map

CORRELATED_METRICS = (*JUDGED_METRICS[1:], "mean_confidence", "overlap_10")
"""The metrics whose correlation with accuracy charts and the report show."""

NO_CORRELATION = "they have no order, so nothing is correlated over them"


def _headline_metrics(selection: Selection) -> BoundQuery:
    return run_metrics.headline_metrics([selection.run_id])


def _pareto_points(selection: Selection) -> BoundQuery:
    if selection.names.is_comparison:
        return comparisons.candidate_sizes(selection.run_id, selection.metric)
    return comparisons.pareto_points(selection.run_id, selection.metric)


def _levels(rows: pl.DataFrame, selection: Selection) -> Part:
    return levels_chart(rows, _with_accuracy(rows, selection, "value"))


def _deltas(rows: pl.DataFrame, selection: Selection) -> Part:
    above = rows.filter(pl.col("level") > 0)
    return deltas_chart(rows, _with_accuracy(above, selection, "delta"))


def _with_accuracy(rows: pl.DataFrame, selection: Selection, column: str) -> list[str]:
    """Accuracy and the selected metric.

    Raises:
        NothingToShow: one of them has no value in the column.
    """
    metrics = list(dict.fromkeys(["accuracy", selection.metric]))
    for metric in metrics:
        if rows.filter(metric=metric).drop_nulls(column).is_empty():
            raise NothingToShow(f"run {selection.run_id} has no {column} of {label(metric)}")
    return metrics


def _verdicts(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("metric").is_in(JUDGED_METRICS)).drop_nulls("verdict").is_empty():
        raise NothingToShow(
            f"run {selection.run_id} has no verdicts: they need examples, and a level above 0"
        )
    return verdict_map(rows)


def _path(rows: pl.DataFrame, selection: Selection) -> Part:
    if selection.metric == "accuracy":
        raise NothingToShow("the path needs a metric other than accuracy; add metric=nll")
    if selection.names.is_comparison:
        return candidate_path_chart(rows, selection.metric, selection.level, selection.names)
    return path_chart(rows, selection.metric, selection.level)


def _confidence(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(metric="accuracy").drop_nulls("value").is_empty():
        raise NothingToShow(f"no accuracy of run {selection.run_id} could be computed")
    return levels_chart(rows, CONFIDENCE_PANELS)


def _explanations(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(metric="comprehensiveness").drop_nulls("value").is_empty():
        raise NothingToShow(
            f"run {selection.run_id} has predictions only; a sweep with --methods "
            "difference_shap adds explanations"
        )
    return levels_chart(rows, EXPLANATION_PANELS)


def _recalibration(rows: pl.DataFrame, selection: Selection) -> Part:
    if selection.metric not in RECALIBRATED_METRICS:
        raise NothingToShow(
            f"recalibration does not change {label(selection.metric)}; add metric="
            f"{', '.join(RECALIBRATED_METRICS)}"
        )
    if rows["value"].null_count() == rows.height:
        raise NothingToShow(f"run {selection.run_id} is not recalibrated: {rows['note'][0]}")
    return recalibration_chart(rows, selection.metric, selection.level, selection.names)


def _correlations(rows: pl.DataFrame, selection: Selection) -> Part:
    correlated = rows.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if correlated.drop_nulls("spearman").is_empty():
        raise NothingToShow(f"no correlation with accuracy is defined in run {selection.run_id}")
    return correlations_chart(correlated)


def _correlation_matrix(rows: pl.DataFrame, selection: Selection) -> Part:
    correlated = rows.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if correlated.drop_nulls("spearman").is_empty():
        raise NothingToShow(
            "no correlation with accuracy is defined in any task of the model and strategy of run "
            f"{selection.run_id}"
        )
    return matrix_chart(correlated)


def _overlap(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("level") > 0, other_level=0).is_empty():
        kind = "candidate whose explanations can be compared with the baseline's"
        missing = kind if selection.names.is_comparison else "pruned level"
        raise NothingToShow(f"run {selection.run_id} explains no {missing}")
    return overlap_chart(rows, selection.names)


def _flips(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("level") > 0).drop_nulls("flip_rate").is_empty():
        raise NothingToShow(f"run {selection.run_id} has no pruned level to compare with level 0")
    return flips_chart(rows, selection.level, selection.names)


def _pareto(rows: pl.DataFrame, selection: Selection) -> Part:
    if METRIC_DEFINITIONS[selection.metric].higher_is_better is None:
        raise NothingToShow(
            f"{selection.metric} has no better direction; give a metric that has one"
        )
    accuracy = rows.filter(metric="accuracy")
    if accuracy.is_empty():
        raise NothingToShow(f"no accuracy of run {selection.run_id} could be computed")
    if selection.names.is_comparison:
        if accuracy["weight_bytes"].null_count() == accuracy.height:
            raise NothingToShow(
                f"the sizes of the candidates of run {selection.run_id} are unknown"
            )
        return candidate_size_chart(rows, selection.metric, selection.names)
    return pareto_chart(rows, selection.metric)


def _cost(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("level") > 0).is_empty():
        raise NothingToShow(f"no pruned level of run {selection.run_id} was profiled")
    return cost_chart(rows, selection.level)


def _importance(rows: pl.DataFrame, selection: Selection) -> Part:
    return chart_of_importance(rows, selection.run, max(selection.run["levels"]))


CHARTS = {
    definition.name: definition
    for definition in (
        ChartDefinition(
            "levels",
            "Accuracy and a metric over levels.",
            ("metric",),
            _headline_metrics,
            _levels,
            candidate_caption="Accuracy and a metric of each candidate.",
        ),
        ChartDefinition(
            "deltas",
            "The change of accuracy and a metric from the unpruned model, level by level.",
            ("metric",),
            _headline_metrics,
            _deltas,
            candidate_caption="The change of accuracy and a metric from the baseline.",
        ),
        ChartDefinition(
            "verdicts",
            "The verdict on each metric at each level.",
            (),
            _headline_metrics,
            _verdicts,
            candidate_caption="The verdict on each metric for each candidate.",
        ),
        ChartDefinition(
            "path",
            "Accuracy against a metric, level by level.",
            ("metric", "level"),
            lambda selection: charts.accuracy_path(selection.run_id, selection.metric),
            _path,
            candidate_caption="Accuracy against a metric, for each candidate.",
        ),
        ChartDefinition(
            "confidence",
            "Accuracy and confidence over levels.",
            (),
            _headline_metrics,
            _confidence,
            candidate_caption="Accuracy and confidence of each candidate.",
        ),
        ChartDefinition(
            "explanations",
            "Accuracy and faithfulness of explanations over levels.",
            (),
            _headline_metrics,
            _explanations,
            candidate_caption="Accuracy and faithfulness of explanations of each candidate.",
        ),
        ChartDefinition(
            "reliability",
            "Reliability: accuracy against confidence, in 10 bins of confidence.",
            ("level",),
            lambda selection: charts.reliability(selection.run_id, selection.level),
            lambda rows, selection: reliability_chart(rows, selection.level, selection.names),
            "predictions of single examples",
        ),
        ChartDefinition(
            "recalibration",
            "A metric of confidence before and after recalibration, level by level.",
            ("metric", "level"),
            lambda selection: charts.recalibration(selection.run_id, selection.metric),
            _recalibration,
            "predictions of single examples",
            candidate_caption="A metric of confidence before and after recalibration.",
        ),
        ChartDefinition(
            "correlations",
            "The correlation of each metric with accuracy over levels.",
            (),
            lambda selection: run_metrics.correlations(selection.run_id),
            _correlations,
            "correlations",
            NO_CORRELATION,
        ),
        ChartDefinition(
            "correlation_matrix",
            "The correlation of each metric with accuracy in every task of the model.",
            (),
            lambda selection: comparisons.correlation_matrix(selection.run_id),
            _correlation_matrix,
            "correlations",
            NO_CORRELATION,
        ),
        ChartDefinition(
            "overlap",
            "Overlap of the top 10 tokens between the explanations of any two levels.",
            (),
            lambda selection: charts.overlap_matrix(selection.run_id),
            _overlap,
            "explanations of single examples by a method that can compare levels (difference_shap "
            "cannot, --methods leverage_shap can)",
            candidate_caption="Overlap of the top 10 tokens of any two candidates.",
        ),
        ChartDefinition(
            "flips",
            "Predictions that pruning changed, harmful and beneficial.",
            ("level",),
            lambda selection: charts.flips(selection.run_id),
            _flips,
            "predictions of single examples",
            candidate_caption="Predictions that changed, harmful and beneficial.",
        ),
        ChartDefinition(
            "pareto",
            "Accuracy and a metric against the share of layers that remains.",
            ("metric",),
            _pareto_points,
            _pareto,
            candidate_caption="Accuracy and a metric against the size of the weights.",
        ),
        ChartDefinition(
            "cost",
            "What a level saves: speed, weights, KV cache and peak memory.",
            ("level",),
            lambda selection: charts.efficiency(selection.run_id),
            _cost,
            "measured cost (prunelake profile measures it)",
            "their costs are not measured; the chart pareto shows their sizes",
        ),
        ChartDefinition(
            "importance",
            "Importance of layers or experts, and the order in which they are removed.",
            (),
            lambda selection: charts.layer_importance(selection.run_id),
            _importance,
            "importance of layers",
            "layers are not removed in an order",
        ),
    )
}
