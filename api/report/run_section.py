"""The section of one run in the report: findings, charts and tables."""

from collections.abc import Mapping
from html import escape
from typing import Any

import polars as pl

from prunelake.errors import NothingToShow
from prunelake.schema.analysis_tables import NO_EXAMPLES_NOTE

from ..charts.catalog import CHARTS
from ..findings import level_names, level_rows, sentences
from ..findings.level_rows import CORRELATED_METRICS
from ..findings.selection import RunChoices, Selection
from ..findings.settle import settling_sentence
from ..queries import run_metrics, runs
from . import html, tables
from .drawings import Drawings
from .examples_section import examples_section
from .sections import Section

MAIN_CHARTS = ("confidence", "explanations", "verdicts", "reliability")
"""The charts that are always visible; the reader opens the others."""

OMITTED_CHARTS = ("levels", "importance", "correlation_matrix", "cost")
"""Charts that run sections omit: `levels` repeats main charts, the others describe a model."""

CANDIDATES_NOTE = "Candidates have no order, so nothing is correlated over them."


def run_section(
    run: Mapping[str, Any], levels: pl.DataFrame, is_first: bool, drawings: Drawings
) -> Section:
    """The section of a run; `levels` are its rows of `run_metrics.headline_metrics`.

    The first section of a model and task (`is_first`) also has the chart that compares strategies.
    """
    run_id = run["run_id"]
    uniform, majority = (yield runs.guessing_accuracy(run_id)).row(0)
    words = "".join(
        f'<p class="finding">{escape(text)}</p>' for text in sentences.summary_sentences(levels)
    )
    words += "".join(
        f'<p class="warning">{escape(text)}</p>'
        for text in sentences.warnings(levels, uniform, majority)
    )
    words += f'<p class="soft">{escape(sentences.sample_size_note(levels))}</p>'
    if text := settling_sentence(run, levels):
        words += f'<p class="soft">{escape(text)}</p>'
    headline = next((yield runs.headline_explanation(run_id)).iter_rows(named=True), None)
    words += f'<p class="soft">{_explained_by(headline)}</p>'
    names = level_names.LevelNames.of(levels)
    correlations = yield run_metrics.correlations(run_id)
    if names.is_comparison:
        words += f'<p class="soft">{CANDIDATES_NOTE}</p>'
        correlations = correlations.clear()
    correlations = correlations.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if level_rows.is_published(levels):
        # One sentence, instead of every row, says that intervals and the stable scope are missing.
        correlations = correlations.filter(scope="all").with_columns(
            pl.col("note").replace(NO_EXAMPLES_NOTE, None)
        )
    figures = examples = ""
    if level_rows.value_at(levels, "accuracy", 0) is not None:
        selection = RunChoices.of(run, levels).selection(None, _most_degraded_metric(levels))
        figures = yield from _figures(selection, is_first, drawings)
        method = headline["method"] if headline else None
        examples = yield from examples_section(selection, method)
    return (
        f'<section id="{run_id}"><h3>{escape(run["task"])}</h3>{words}'
        f"{figures}{examples}"
        f"{tables.verdict_table(levels)}{tables.correlation_table(correlations)}</section>"
    )


def _explained_by(headline: Mapping[str, Any] | None) -> str:
    if headline is None:
        return (
            "This run has predictions only, so panels about explanations are left out; a sweep "
            "with <code class='command'>--methods difference_shap</code> adds them."
        )
    names = {"method": "method", "operator": "operator", "variant": "AOPC variant"}
    values = [f"{name} {headline[column] or 'unknown'}" for column, name in names.items()]
    text = f"Explanations shown: {escape(', '.join(values))}."
    if headline["method"] == "difference_shap":
        text += (
            " This method computes the scores of a level from the scores of level 0, so it cannot "
            "show whether explanations of two levels agree."
        )
    return text


def _figures(selection: Selection, is_first: bool, drawings: Drawings) -> Section:
    """The main charts side by side, and the other charts in a block that the reader opens."""
    rows_by_query: dict[str, pl.DataFrame] = {}
    figures: dict[str, str] = {}
    for definition in CHARTS.values():
        if definition.name in OMITTED_CHARTS or (definition.name == "pareto" and not is_first):
            continue
        query = definition.query(selection)
        # Several charts have the same query.
        if query.sql_with_values not in rows_by_query:
            rows_by_query[query.sql_with_values] = yield query
        try:
            chart = definition.chart(rows_by_query[query.sql_with_values], selection)
        except NothingToShow:
            continue
        figures[definition.name] = drawings.figure(chart, definition.caption_for(selection.names))
    others = [name for name in figures if name not in MAIN_CHARTS]
    text = html.figures(figures[name] for name in MAIN_CHARTS if name in figures)
    if others:
        text += html.details(
            f"{len(others)} more charts: {', '.join(others)}",
            html.figures(figures[name] for name in others),
        )
    return text


def _most_degraded_metric(levels: pl.DataFrame) -> str | None:
    """The metric for charts of a single metric: it has hidden, or else visible degradation."""
    for verdicts in (level_rows.HIDDEN_VERDICTS, level_rows.WORSE_VERDICTS):
        for metric in level_rows.JUDGED_METRICS[1:]:
            if level_rows.levels_with_verdict(levels, metric, verdicts):
                return metric
    return None
