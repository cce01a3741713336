"""The section of one run in the report: findings, charts and tables."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import polars as pl

from api import charts, findings, html, queries, tables
from prunelake.analyse import WITHOUT_EXAMPLES


def run_section(
    connection: queries.Connection, run: Mapping[str, Any], levels: pl.DataFrame
) -> str:
    """What one run shows; `levels` are its rows of `queries.levels`."""
    run_id = run["run_id"]
    shown = findings.shown_level(levels) or 0
    words = "".join(f'<p class="finding">{escape(text)}</p>' for text in findings.summary(levels))
    words += "".join(
        f'<p class="warning">{escape(text)}</p>' for text in _warnings(connection, run_id, levels)
    )
    words += f'<p class="soft">{escape(findings.caveat(levels))}</p>'
    words += f'<p class="soft">{_explained_by(connection, run_id)}</p>'
    correlations = queries.correlations(connection, run_id)
    correlations = correlations.filter(pl.col("metric").is_in(tables.CORRELATED))
    if findings.is_published(levels):
        # That there is no stable scope and no interval is said once, not in each row.
        correlations = correlations.filter(scope="all").with_columns(
            pl.col("note").replace(WITHOUT_EXAMPLES, None)
        )
    figures = ""
    if findings.value_at(levels, "accuracy", 0) is not None:
        reliability = queries.reliability(connection, run_id, shown)
        figures = "".join(_figures(levels, correlations, reliability, shown))
    return (
        f'<section id="{run_id}"><h3>{escape(run["task"])}</h3>{words}'
        f'<div class="figures">{figures}</div>'
        f"{tables.verdict_table(levels)}{tables.correlation_table(correlations)}</section>"
    )


def _warnings(connection: queries.Connection, run_id: str, levels: pl.DataFrame) -> Iterator[str]:
    uniform, majority = queries.guessing(connection, run_id).row(0)
    found = [findings.against_random(levels, findings.shown_level(levels) or 0)]
    if uniform is not None:
        found.insert(0, findings.near_chance(levels, findings.Guessing(uniform, majority)))
    yield from filter(None, found)


def _explained_by(connection: queries.Connection, run_id: str) -> str:
    rows = queries.headline(connection, run_id).rows()
    if not rows:
        return (
            "This run has predictions only, so panels about explanations are left out; a sweep "
            "with <code class='command'>--methods kernel_shap</code> adds them."
        )
    names = ("method", "operator", "AOPC variant")
    told = [f"{name} {value or 'not told'}" for name, value in zip(names, rows[0], strict=True)]
    return f"Explanations shown: {escape(', '.join(told))}."


def _figures(
    levels: pl.DataFrame, correlations: pl.DataFrame, reliability: pl.DataFrame, shown: int
) -> Iterator[str]:
    yield html.figure(
        charts.levels_chart(levels, charts.CONFIDENCE_PANELS),
        "Accuracy and confidence over levels.",
    )
    if levels.filter(metric="comprehensiveness").drop_nulls("value").height:
        yield html.figure(
            charts.levels_chart(levels, charts.EXPLANATION_PANELS),
            "Accuracy and faithfulness of explanations over levels.",
        )
    if reliability.height:
        yield html.figure(
            charts.reliability_chart(reliability, shown),
            "Reliability: accuracy against confidence, in 10 bins of confidence.",
        )
    if correlations.drop_nulls("spearman").height:
        yield html.figure(
            charts.correlations_chart(correlations),
            "How each metric goes with accuracy over levels.",
        )
