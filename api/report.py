"""What the lake shows, as one HTML file that needs no script, no network and no other file."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from api import charts, findings, html, queries
from api.findings import number, signed
from prunelake import views
from prunelake.errors import LakeError, PruneLakeError

TABLE_METRICS = ("accuracy", "ece", "comprehensiveness", "sufficiency")

IMPORTANCE = {
    "cosine": "1 minus the mean cosine similarity of the residual stream in front of and behind it",
    "random": "a random draw",
}

Run = dict[str, Any]


def write_report(lake: Path, out: Path, run_ids: Sequence[str] | None = None) -> None:
    """Write the report of all runs, or of `run_ids`, to `out`, whole or not at all.

    Raises:
        LakeError: no such folder or no such run.
        WrongFormat, CorruptFile, QueryError: as `views.query`.
        PruneLakeError: a file that cannot be written.
    """
    with views.connect(lake) as connection:
        runs = list(queries.runs(connection, run_ids).iter_rows(named=True))
        missing = sorted(set(run_ids or ()) - {run["run_id"] for run in runs})
        if missing:
            raise LakeError(f"no complete run {', '.join(missing)} in {lake}")
        page = _page(lake, runs, list(_models(connection, runs)))
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(out)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise PruneLakeError(
            f"{out} could not be written: {error.strerror}; give --out another path"
        ) from error


@dataclass(frozen=True)
class _Evidence:
    """All rows that one run's section shows."""

    levels: pl.DataFrame
    correlations: pl.DataFrame
    reliability: pl.DataFrame
    guessing: findings.Guessing | None
    explained_by: str | None


def _page(lake: Path, runs: Sequence[Run], models: Sequence[str]) -> str:
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    if runs:
        links = "".join(
            f'<li><a href="#{run["run_id"]}">{escape(_model_name(run))}, {escape(run["task"])}</a>'
            for run in runs
        )
        sections = html.with_distinct_ids("".join(models))
        body = f"<nav aria-label='Runs'><ul>{links}</ul></nav>{sections}"
    else:
        body = (
            f"<p>The lake at <code>{escape(str(lake))}</code> holds no runs yet, so there is "
            "nothing to show. <code class='command'>prunelake demo</code> fills it with a small "
            "sweep, <code class='command'>prunelake sweep --task boolq</code> with your own.</p>"
        )
    ids = ", ".join(f"<code>{run['run_id']}</code>" for run in runs) or "none"
    command = f"prunelake report --lake {lake} --out report.html"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>PruneLake report</title>
<style>{css}</style>
</head>
<body>
<header>
<h1>What removing attention layers does to accuracy, confidence and explanations</h1>
<p class="soft">Level k is the model without the attention of the first k layers of the removal
order; level 0 is the unpruned model.</p>
</header>
<main>
{body}
</main>
<footer>
<p>Made by <code>{escape(command)}</code> from the runs {ids}.</p>
</footer>
</body>
</html>
"""


def _models(connection: queries.Connection, runs: Sequence[Run]) -> Iterator[str]:
    """One section for all runs that remove the same layers of the same model in the same order."""

    def order(run: Run) -> tuple[Any, ...]:
        return run["model"], run["revision"], run["strategy"], run["removal_order"]

    for _, group in groupby(runs, key=order):
        members = list(group)
        first = members[0]
        sections = [_task(run, _evidence(connection, run["run_id"])) for run in members]
        layers = queries.layers(connection, first["run_id"])
        strip = ""
        if layers.height:
            chart = charts.importance_chart(layers, max(map(max, (r["levels"] for r in members))))
            strategy = first["strategy"].partition(":")[0]
            measure = IMPORTANCE.get(strategy, f"by the strategy {strategy}")
            caption = f"Importance of attention layers: {measure}; from run {first['run_id']}."
            strip = f'<div class="figures">{html.figure(chart, caption)}</div>'
        revision = first["revision"].removeprefix("sha256:")[:12] or "not known"
        yield (
            f"<section><h2>{escape(_model_name(first))}, "
            f"{escape(findings.order(first['strategy']))}</h2>"
            f"<p class='soft'>Model <code>{escape(first['model'])}</code>, revision "
            f"<code>{escape(revision)}</code>, {first['layer_count'] or 'number not known of'} "
            "attention layers.</p>"
            f"{_run_table(members)}{strip}{''.join(sections)}</section>"
        )


def _evidence(connection: queries.Connection, run_id: str) -> _Evidence:
    levels = queries.levels(connection, run_id)
    shown = findings.shown_level(levels) or 0
    uniform, majority = queries.guessing(connection, run_id).row(0)
    explained_by = queries.headline(connection, run_id).rows()
    return _Evidence(
        levels=levels,
        correlations=queries.correlations(connection, run_id),
        reliability=queries.reliability(connection, run_id, shown),
        guessing=None if uniform is None else findings.Guessing(uniform, majority),
        explained_by="method {}, operator {}, AOPC variant eraser".format(*explained_by[0])
        if explained_by
        else None,
    )


def _task(run: Run, evidence: _Evidence) -> str:
    levels = evidence.levels
    shown = findings.shown_level(levels) or 0
    warnings = [findings.near_chance(levels, evidence.guessing)] if evidence.guessing else []
    warnings.append(findings.against_random(levels, shown))
    words = f'<p class="finding">{escape(findings.summary(levels))}</p>'
    words += "".join(f'<p class="warning">{escape(text)}</p>' for text in warnings if text)
    words += f'<p class="soft">{escape(findings.caveat(levels))}</p>'
    if evidence.explained_by:
        words += f'<p class="soft">Explanations shown: {escape(evidence.explained_by)}.</p>'
    else:
        words += (
            '<p class="soft">This run has predictions only, so panels about explanations are left '
            "out; a sweep with <code class='command'>--methods kernel_shap</code> adds them.</p>"
        )
    return (
        f'<section id="{run["run_id"]}"><h3>{escape(run["task"])}</h3>{words}'
        f'<div class="figures">{"".join(_figures(evidence, shown))}</div>'
        f"{_level_table(levels)}{_correlation_table(evidence.correlations)}</section>"
    )


def _figures(evidence: _Evidence, shown: int) -> Iterator[str]:
    if findings.held_level(evidence.levels) is None:
        return
    yield html.figure(
        charts.levels_chart(evidence.levels, charts.CONFIDENCE_PANELS),
        "Accuracy and confidence over levels.",
    )
    if evidence.explained_by:
        yield html.figure(
            charts.levels_chart(evidence.levels, charts.EXPLANATION_PANELS),
            "Accuracy and faithfulness of explanations over levels.",
        )
    yield html.figure(
        charts.reliability_chart(evidence.reliability, shown),
        "Reliability: accuracy against confidence, in 10 bins of confidence.",
    )
    everywhere = evidence.correlations.filter(scope="all").drop_nulls("spearman")
    if everywhere.height:
        yield html.figure(
            charts.correlations_chart(everywhere),
            "How each metric goes with accuracy over levels.",
        )


def _run_table(runs: Sequence[Run]) -> str:
    header = ["task", "examples", "levels", "dtype", "device", "forward tokens", "seconds", "run"]
    rows = [
        [
            run["task"],
            f"{run['example_count']:,}",
            _ranges(run["levels"]),
            run["dtype"],
            run["device"],
            f"{run['forward_tokens']:,}",
            f"{run['duration_s']:,.0f}",
            run["run_id"],
        ]
        for run in runs
    ]
    return html.table("What was run.", header, rows, text_columns={2, 3, 4, 7})


def _level_table(levels: pl.DataFrame) -> str:
    present = [m for m in TABLE_METRICS if levels.drop_nulls("value").filter(metric=m).height]
    header = ["level"]
    for metric in present:
        header += [findings.label(metric), "change"]
    by_key = {(r["metric"], r["level"]): r for r in levels.iter_rows(named=True)}
    rows = []
    for level in sorted(set(levels["level"])):
        row = [str(level)]
        for metric in present:
            cell = by_key.get((metric, level), {"value": None, "delta": None})
            row += [number(cell["value"], 3), signed(cell["delta"], 3) if level else ""]
        rows.append(row)
    held = findings.held_level(levels)
    caption = "Each level, and its change from level 0."
    if held:
        caption += f" Shaded: accuracy has not fallen by more than {findings.MARGIN}."
    return html.table(caption, header, rows, shaded=held or -1)


def _correlation_table(correlations: pl.DataFrame) -> str:
    rows = [
        [
            findings.label(row["metric"]),
            f"{row['scope']} ({row['level_count']})",
            number(row["pearson"]),
            number(row["spearman"]),
            number(row["kendall"]),
            row["note"] or "",
        ]
        for row in correlations.iter_rows(named=True)
    ]
    if not rows:
        return ""
    header = ["metric", "levels", "Pearson", "Spearman", "Kendall", "note"]
    caption = (
        "Correlation of each metric with accuracy over levels. A dash: not defined, for the "
        "reason noted."
    )
    return html.table(caption, header, rows, text_columns={1, 5})


def _ranges(levels: Sequence[int]) -> str:
    """Ascending numbers, three and more in a row as first to last: 0 to 3, 6, 8."""
    runs: list[list[int]] = []
    for level in levels:
        if runs and level == runs[-1][-1] + 1:
            runs[-1].append(level)
        else:
            runs.append([level])
    parts = [
        [f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(level) for level in run]
        for run in runs
    ]
    return ", ".join(part for run_parts in parts for part in run_parts)


def _model_name(run: Run) -> str:
    """The last part of a model reference."""
    name: str = run["model"]
    return name.rstrip("/").rpartition("/")[2].rpartition(":")[2] or name
