"""The section of one run in the report: findings, charts and tables."""

from collections.abc import Mapping
from html import escape
from typing import Any

import polars as pl

from api import findings, html, queries, tables
from api.charts.catalog import CHARTS, CORRELATED
from api.examples_html import examples_section
from api.subject import Subject, subject_of
from prunelake.analysis.analyse import WITHOUT_EXAMPLES
from prunelake.errors import NothingToShow
from prunelake.lake.bound_query import Connection

MAIN = ("confidence", "explanations", "verdicts", "reliability")
"""Always to be seen; the other charts of a run are opened."""

ELSEWHERE = ("levels", "importance", "correlation_matrix", "cost")
"""Not shown for each run: `levels` draws panels of the main charts, the others are of a model."""


def run_section(
    connection: Connection, run: Mapping[str, Any], levels: pl.DataFrame, is_first: bool
) -> str:
    """What one run shows; `levels` are its rows of `queries.levels`.

    `is_first`: it is the first one of its model and task, and shows what compares their strategies.
    """
    run_id = run["run_id"]
    uniform, majority = queries.guessing(run_id).rows(connection).row(0)
    words = "".join(f'<p class="finding">{escape(text)}</p>' for text in findings.summary(levels))
    words += "".join(
        f'<p class="warning">{escape(text)}</p>'
        for text in findings.warnings(levels, uniform, majority)
    )
    words += f'<p class="soft">{escape(findings.caveat(levels))}</p>'
    headline = next(queries.headline(run_id).rows(connection).iter_rows(named=True), None)
    words += f'<p class="soft">{_explained_by(headline)}</p>'
    correlations = queries.correlations(run_id).rows(connection)
    correlations = correlations.filter(pl.col("metric").is_in(CORRELATED))
    if findings.is_published(levels):
        # That there is no stable scope and no interval is said once, not in each row.
        correlations = correlations.filter(scope="all").with_columns(
            pl.col("note").replace(WITHOUT_EXAMPLES, None)
        )
    figures = examples = ""
    if findings.value_at(levels, "accuracy", 0) is not None:
        subject = subject_of(run, levels, None, _telling_metric(levels))
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


def _figures(connection: Connection, subject: Subject, is_first: bool) -> str:
    """The main charts side by side, and the others to be opened."""
    known: dict[str, pl.DataFrame] = {}
    found: dict[str, str] = {}
    for kind in CHARTS.values():
        if kind.name in ELSEWHERE or (kind.name == "pareto" and not is_first):
            continue
        query = kind.query(subject)
        # Several charts ask for the same.
        if query.text not in known:
            known[query.text] = query.rows(connection)
        try:
            chart = kind.chart(known[query.text], subject)
        except NothingToShow:
            continue
        found[kind.name] = html.figure(chart, kind.caption)
    others = [name for name in found if name not in MAIN]
    text = html.figures(found[name] for name in MAIN if name in found)
    if others:
        text += html.details(
            f"{len(others)} more charts: {', '.join(others)}",
            html.figures(found[name] for name in others),
        )
    return text


def _telling_metric(levels: pl.DataFrame) -> str | None:
    """The metric that charts of one metric show: one whose degradation is hidden, or visible."""
    for verdicts in (findings.HIDDEN, findings.WORSE):
        for metric in findings.JUDGED[1:]:
            if findings.with_verdict(levels, metric, verdicts):
                return metric
    return None
