"""The section of one run in the report: findings, charts and tables."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import polars as pl

from api import findings, html, queries, tables
from api.charts.catalog import CHARTS, CORRELATED
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
    words += f'<p class="soft">{_explained_by(connection, run_id)}</p>'
    correlations = queries.correlations(run_id).rows(connection)
    correlations = correlations.filter(pl.col("metric").is_in(CORRELATED))
    if findings.is_published(levels):
        # That there is no stable scope and no interval is said once, not in each row.
        correlations = correlations.filter(scope="all").with_columns(
            pl.col("note").replace(WITHOUT_EXAMPLES, None)
        )
    figures = ""
    if findings.value_at(levels, "accuracy", 0) is not None:
        figures = "".join(_figures(connection, subject_of(run, levels, None, None)))
    return (
        f'<section id="{run_id}"><h3>{escape(run["task"])}</h3>{words}'
        f'<div class="figures">{figures}</div>'
        f"{tables.verdict_table(levels)}{tables.correlation_table(correlations)}</section>"
    )


def _explained_by(connection: Connection, run_id: str) -> str:
    rows = queries.headline(run_id).rows(connection).rows()
    if not rows:
        return (
            "This run has predictions only, so panels about explanations are left out; a sweep "
            "with <code class='command'>--methods kernel_shap</code> adds them."
        )
    names = ("method", "operator", "AOPC variant")
    told = [f"{name} {value or 'not told'}" for name, value in zip(names, rows[0], strict=True)]
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
