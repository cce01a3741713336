"""The section of one run in the report: findings, charts and tables."""

from collections.abc import Mapping
from html import escape
from typing import Any

import polars as pl

from prunelake.analysis.analyse import NO_EXAMPLES_NOTE
from prunelake.errors import NothingToShow
from prunelake.lake.bound_query import Connection

from ..charts.catalog import CHARTS, CORRELATED_METRICS
from ..findings import level_rows, sentences
from ..findings.selection import Selection, checked_selection
from ..queries import run_metrics, runs
from . import html, tables
from .examples_section import examples_section

MAIN_CHARTS = ("confidence", "explanations", "verdicts", "reliability")
"""Always to be seen; the other charts of a run are opened."""

OMITTED_CHARTS = ("levels", "importance", "correlation_matrix", "cost")
"""Not shown for each run: `levels` draws panels of the main charts, the others are of a model."""


def run_section(
    connection: Connection, run: Mapping[str, Any], levels: pl.DataFrame, is_first: bool
) -> str:
    """What one run shows; `levels` are its rows of `run_metrics.headline_metrics`.

    `is_first`: it is the first one of its model and task, and shows what compares their strategies.
    """
    run_id = run["run_id"]
    uniform, majority = runs.guessing_accuracy(run_id).rows(connection).row(0)
    words = "".join(
        f'<p class="finding">{escape(text)}</p>' for text in sentences.summary_sentences(levels)
    )
    words += "".join(
        f'<p class="warning">{escape(text)}</p>'
        for text in sentences.warnings(levels, uniform, majority)
    )
    words += f'<p class="soft">{escape(sentences.sample_size_note(levels))}</p>'
    headline = next(runs.headline_explanation(run_id).rows(connection).iter_rows(named=True), None)
    words += f'<p class="soft">{_explained_by(headline)}</p>'
    correlations = run_metrics.correlations(run_id).rows(connection)
    correlations = correlations.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if level_rows.is_published(levels):
        # That there is no stable scope and no interval is said once, not in each row.
        correlations = correlations.filter(scope="all").with_columns(
            pl.col("note").replace(NO_EXAMPLES_NOTE, None)
        )
    figures = examples = ""
    if level_rows.value_at(levels, "accuracy", 0) is not None:
        subject = checked_selection(run, levels, None, _most_degraded_metric(levels))
        figures = _figures(connection, subject, is_first)
        examples = examples_section(connection, subject, headline["method"] if headline else None)
    return (
        f'<section id="{run_id}"><h3>{escape(run["task"])}</h3>{words}'
        f"{figures}{examples}"
        f"{tables.verdict_table(levels)}{tables.correlation_table(correlations)}</section>"
    )


def _explained_by(headline: Mapping[str, Any] | None) -> str:
    if headline is None:
        return (
            "This run has predictions only, so panels about explanations are left out; a sweep "
            "with <code class='command'>--methods kernel_shap</code> adds them."
        )
    names = {"method": "method", "operator": "operator", "variant": "AOPC variant"}
    told = [f"{name} {headline[column] or 'not told'}" for column, name in names.items()]
    return f"Explanations shown: {escape(', '.join(told))}."


def _figures(connection: Connection, subject: Selection, is_first: bool) -> str:
    """The main charts side by side, and the others to be opened."""
    known: dict[str, pl.DataFrame] = {}
    found: dict[str, str] = {}
    for kind in CHARTS.values():
        if kind.name in OMITTED_CHARTS or (kind.name == "pareto" and not is_first):
            continue
        query = kind.query(subject)
        # Several charts ask for the same.
        if query.sql_with_values not in known:
            known[query.sql_with_values] = query.rows(connection)
        try:
            chart = kind.chart(known[query.sql_with_values], subject)
        except NothingToShow:
            continue
        found[kind.name] = html.figure(chart, kind.caption)
    others = [name for name in found if name not in MAIN_CHARTS]
    text = html.figures(found[name] for name in MAIN_CHARTS if name in found)
    if others:
        text += html.details(
            f"{len(others)} more charts: {', '.join(others)}",
            html.figures(found[name] for name in others),
        )
    return text


def _most_degraded_metric(levels: pl.DataFrame) -> str | None:
    """The metric that charts of one metric show: one whose degradation is hidden, or visible."""
    for verdicts in (level_rows.HIDDEN_VERDICTS, level_rows.WORSE_VERDICTS):
        for metric in level_rows.JUDGED_METRICS[1:]:
            if level_rows.levels_with_verdict(levels, metric, verdicts):
                return metric
    return None
