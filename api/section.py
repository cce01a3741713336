"""The section of one run in the report: findings, charts and tables."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import polars as pl

from api import findings, html, queries, tables
from api.charts.catalog import CHARTS, CORRELATED
from api.examples_html import examples_section
from api.query import Connection
from api.subject import Subject, subject_of
from prunelake.analyse import WITHOUT_EXAMPLES
from prunelake.errors import NothingToShow


def run_section(connection: Connection, run: Mapping[str, Any], levels: pl.DataFrame) -> str:
    """What one run shows; `levels` are its rows of `queries.levels`."""
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
        subject = subject_of(run, levels, None, None)
        figures = "".join(_figures(connection, subject))
        examples = examples_section(connection, subject, headline["method"] if headline else None)
    return (
        f'<section id="{run_id}"><h3>{escape(run["task"])}</h3>{words}'
        f'<div class="figures">{figures}</div>{examples}'
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


def _figures(connection: Connection, subject: Subject) -> Iterator[str]:
    for kind in CHARTS.values():
        # One strip of layers serves all runs of a model.
        if kind.name == "importance":
            continue
        try:
            rows = kind.query(subject).rows(connection)
            yield html.figure(kind.chart(rows, subject), kind.caption)
        except NothingToShow:
            continue
