"""Prints a comparison as tables and sentences."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from prunelake.api.findings.candidates import SHOWN_METRICS, candidate_sentence
from prunelake.api.findings.settle import settled_by
from prunelake.api.findings.verdict_labels import VERDICT_LABELS
from prunelake.api.findings.wording import interval, label, number, percent, signed
from prunelake.api.queries import run_metrics
from prunelake.api.queries import runs as run_queries
from prunelake.api.queries.candidates import candidates as candidate_query
from prunelake.command_line import rounded_up
from prunelake.identity import run_kind
from prunelake.lake.sql import views
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import FOREIGN_TOKENS_NOTE
from prunelake.schema.verdicts import Verdict

Cells = Mapping[tuple[int, str], Mapping[str, Any]]
"""The rows of `headline_metrics` by level and metric."""

CONFIDENCE_METRICS = ("ece", "comprehensiveness", "sufficiency", "attribution_spearman")
COLUMN_NAMES = {
    "comprehensiveness": "comprehens.",
    "sufficiency": "sufficiency",
    "attribution_spearman": "agreement",
}
BASELINE_MEANINGS = {
    Verdict.equivalent: "within its margin of the baseline",
    Verdict.improved: "better than the baseline",
}


def print_comparison(
    lake: Location, run_id: str, console: Console | None = None, lake_option: str | None = None
) -> None:
    """Print a sentence about each candidate, and its metrics beside those of the baseline."""
    console = console or Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with views.connect(lake, [run_id]) as connection:
        levels = run_metrics.headline_metrics([run_id]).rows(connection)
        (run,) = run_queries.all_runs([run_id]).records(connection)
        models = candidate_query(run_id).records(connection)
        explanation = run_queries.headline_explanation(run_id).records(connection)
    baseline, *others = models
    methods = [row["method"] for row in explanation]
    cells = {(row["level"], row["metric"]): row for row in levels.iter_rows(named=True)}
    say(f"{baseline['label']} is the baseline, on {run['example_count']} rows of {run['task']}.\n")
    for candidate in others:
        say(candidate_sentence(candidate, levels))
    console.print()
    for table in (
        _models_table(models, cells),
        _changes_table(models),
        _confidence_table(models, cells, methods),
    ):
        console.print(table)
    for candidate in others:
        if not candidate["shares_tokens"]:
            say(f"{candidate['label']}: {FOREIGN_TOKENS_NOTE}.")
    lake_words = f" --lake {shlex.quote(lake_option)}" if lake_option else ""
    # Not wrapped, so that a command can be copied.
    next_step = _next_step(run, levels, lake_words)
    console.print(next_step, highlight=False, markup=False, soft_wrap=True)


def _next_step(run: Mapping[str, Any], levels: pl.DataFrame, lake: str) -> str:
    """The command that decides the open questions, or else the gate; with the user's `lake`."""
    settling = settled_by(run, levels)
    if settling is None:
        gate = f"Next: prunelake gate GATE.yaml{lake}"
        open_rows = levels.filter(pl.col("metric").is_in(SHOWN_METRICS)).drop_nulls("n_needed")
        if run_kind(run["identity"]) != "import" or open_rows.is_empty():
            return gate
        rows = rounded_up(max(open_rows["n_needed"]))
        return f"About {rows:,} rows would decide the open questions.\n{gate}"
    if settling.command:
        settling = replace(settling, command=f"{settling.command}{lake}")
    return settling.sentence("the open questions")


def _models_table(models: Sequence[Mapping[str, Any]], cells: Cells) -> Table:
    table = _table("models", "format", "size", "accuracy", "recovery", "95 %")
    for model in models:
        size = model["weight_bytes"]
        is_baseline = model["level"] == 0
        table.add_row(
            model["label"],
            model["dtype"],
            "" if size is None else f"{size / 1e6:,.0f} MB",
            _cell(cells.get((model["level"], "accuracy"))),
            "" if is_baseline else number(model["recovery"], 3),
            interval(model["recovery_low"], model["recovery_high"], 3),
        )
    table.caption = "recovery: accuracy divided by that of the baseline"
    return table


def _changes_table(models: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("flips", "all", "harmful", "beneficial", "neutral", "KL")
    for model in models[1:]:
        names = ("flip_rate", "harmful_rate", "beneficial_rate", "neutral_rate")
        shares = [_share(model[name]) for name in names]
        table.add_row(model["label"], *shares, number(model["mean_kl"], 4))
    table.caption = (
        "share of rows; harmful: right to wrong; beneficial: wrong to right;\n"
        "neutral: wrong to another wrong answer; KL from the baseline, in nats"
    )
    return table


def _confidence_table(
    models: Sequence[Mapping[str, Any]], cells: Cells, methods: Sequence[str | None]
) -> Table:
    shown = [m for m in CONFIDENCE_METRICS if (0, m) in cells and cells[0, m]["n"]]
    title = "confidence" + (f" and explanations by {methods[0]}" if methods else "")
    table = _table(title, *(COLUMN_NAMES.get(name, label(name)) for name in shown))
    for model in models:
        table.add_row(model["label"], *(_cell(cells.get((model["level"], m))) for m in shown))
    verdicts = {row["verdict"] for row in cells.values() if row["metric"] in ("accuracy", *shown)}
    lines = ["in brackets: difference from the baseline"]
    if "attribution_spearman" in shown:
        lines.append("agreement: rank correlation of token scores with those of the baseline")
    for verdict, verdict_label in VERDICT_LABELS.items():
        if verdict in verdicts:
            meaning = BASELINE_MEANINGS.get(Verdict(verdict), verdict_label.meaning)
            lines.append(f"{verdict_label.mark} {meaning}")
    table.caption = "\n".join(lines)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else percent(value, 1)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return ""
    if row["level"] == 0 or row["delta"] is None or not row["verdict"]:
        return number(row["value"], 3)
    mark = VERDICT_LABELS[row["verdict"]].mark
    return f"{number(row['value'], 3)} ({signed(row['delta'], 3)}) {mark}"
