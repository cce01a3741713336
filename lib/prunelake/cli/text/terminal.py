"""Prints the results of sweeps as tables and sentences."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from prunelake.api.findings import level_names, level_rows, sentences
from prunelake.api.findings.headline import decided_count, headline
from prunelake.api.findings.settle import sequential_note, settled_by
from prunelake.api.findings.verdict_labels import VERDICT_LABELS
from prunelake.api.findings.wording import (
    interval,
    label,
    model_name,
    number,
    order_name,
    signed,
)
from prunelake.api.queries import run_metrics
from prunelake.api.queries import runs as run_queries
from prunelake.lake.sql import views
from prunelake.lake.storage.location import Location

TABLE_METRICS = ("accuracy", *level_rows.HEADLINE_METRICS)


def print_summary(
    lake: Location,
    run_ids: Sequence[str],
    console: Console | None = None,
    lake_option: str | None = None,
) -> None:
    """Print the finding of each run; then its metrics by level, sentences and correlations.

    Runs with a hidden degradation come first, then those with the most decided verdicts. The last
    lines are the best next command for each run, with the user's `--lake`.
    """
    console = console or Console()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    with views.connect(lake) as connection:
        all_levels = run_metrics.headline_metrics(run_ids).rows(connection)
        runs = {
            run["run_id"]: run for run in run_queries.all_runs(run_ids).rows(connection).to_dicts()
        }
        levels_of = {run_id: all_levels.filter(run_id=run_id) for run_id in run_ids}
        ordered = sorted(run_ids, key=lambda run_id: _order(levels_of[run_id]))
        for run_id in ordered:
            run = runs[run_id]
            finding = headline(run, levels_of[run_id], names_command=False)
            say(f"{model_name(run['model'])} on {run['task']}: {finding}.\n")
        for run_id in ordered:
            levels = levels_of[run_id]
            explanation = run_queries.headline_explanation(run_id).rows(connection)
            if levels.height:
                # Rich would wrap the title and the caption of a table at the width of the table.
                say(_table_title(runs[run_id], levels, explanation["method"].to_list()))
                for table in _level_tables(levels, console):
                    console.print(table)
                say(_table_caption(levels))
            uniform, majority = run_queries.guessing_accuracy(run_id).rows(connection).row(0)
            warnings = sentences.warnings(levels, uniform, majority)
            for text in [
                *sentences.summary_sentences(levels),
                *(f"Caution: {warning}" for warning in warnings),
                sentences.sample_size_note(levels),
                sequential_note(runs[run_id]),
            ]:
                if text:
                    say(text)
            correlations = run_metrics.correlations(run_id).rows(connection)
            if level_names.LevelNames.of(levels).is_comparison:
                correlations = correlations.clear()
            if level_rows.is_published(levels):
                correlations = correlations.filter(scope="all")
            if not correlations.is_empty():
                console.print(_correlation_lines(correlations.to_dicts()), markup=False)
    console.print()
    for text in dict.fromkeys(
        _next_step(runs[id_], levels_of[id_], lake_option) for id_ in run_ids
    ):
        # Not wrapped, so that a command can be copied.
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _order(levels: pl.DataFrame) -> tuple[int, int]:
    """The place of a run: by its hidden degradations, then by its decided verdicts."""
    judged = levels.filter(pl.col("metric").is_in(level_rows.HEADLINE_METRICS))
    hidden = judged.filter(pl.col("verdict").is_in(level_rows.HIDDEN_VERDICTS)).height
    return -hidden, -decided_count(levels)


def _next_step(run: Mapping[str, Any], levels: pl.DataFrame, lake_option: str | None) -> str:
    """The command that settles open verdicts of a run, or, without these, recommends a level."""
    lake = f" --lake {shlex.quote(lake_option)}" if lake_option else ""
    if levels.is_empty():
        return f"Next: prunelake analyse{lake}"
    if level_rows.is_published(levels):
        return f"Next: prunelake report{lake}"
    settling = settled_by(run, levels)
    if settling is None:
        return f"Next: prunelake recommend --model {shlex.quote(run['model'])}{lake}"
    if settling.command:
        command, hash_, comment = settling.command.partition("  #")
        settling = replace(settling, command=f"{command}{lake}{hash_}{comment}")
    return settling.sentence("the inconclusive verdicts")


def _level_tables(levels: pl.DataFrame, console: Console) -> list[Table]:
    """The metrics by level, in one table if it fits the console, otherwise in two.

    The first of two tables has the first two metrics.
    """
    shown = [
        name for name in TABLE_METRICS if levels.filter(metric=name).drop_nulls("value").height
    ]
    table = _level_table(levels, shown)
    unlimited = console.options.update(max_width=1000)
    if len(shown) <= 2 or console.measure(table, options=unlimited).maximum <= console.width:
        return [table]
    return [_level_table(levels, shown[:2]), _level_table(levels, shown[2:])]


def _table_title(run: dict[str, Any], levels: pl.DataFrame, methods: Sequence[str | None]) -> str:
    title = f"{run['task']}, {order_name(run['strategy'])}: "
    if level_rows.is_published(levels):
        title += "published without examples"
    else:
        title += f"{level_rows.baseline_example_count(levels, 'accuracy')} examples"
        if methods:
            explained = level_rows.baseline_example_count(levels, "comprehensiveness")
            title += f", {explained} of them explained by {methods[0]}"
    return title


def _table_caption(levels: pl.DataFrame) -> str:
    """The meaning of the brackets, and of the marks of the shown metrics."""
    names = level_names.LevelNames.of(levels)
    verdicts = set(levels.filter(pl.col("metric").is_in(TABLE_METRICS))["verdict"])
    caption = "in brackets: difference from the unpruned model (0 layers removed)"
    if names.is_comparison:
        caption = "in brackets: difference from the baseline"
    for verdict, verdict_label in VERDICT_LABELS.items():
        if verdict in verdicts:
            meaning = names.in_baseline_words(verdict_label.meaning)
            caption += f"\n{verdict_label.mark} {meaning}"
    return caption


def _level_table(levels: pl.DataFrame, shown: Sequence[str]) -> Table:
    names = level_names.LevelNames.of(levels)
    cells = {(row["level"], row["metric"]): row for row in levels.iter_rows(named=True)}
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    if names.is_comparison:
        table.add_column("candidate")
    else:
        table.add_column("removed", justify="right", no_wrap=True)
    for name in shown:
        table.add_column(label(name), justify="right", no_wrap=True)
    for level in sorted(set(levels["level"])):
        table.add_row(names.short(level), *[_cell(cells.get((level, name))) for name in shown])
    return table


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return ""
    if row["level"] == 0 or row["delta"] is None:
        return number(row["value"], 3)
    mark = f" {VERDICT_LABELS[row['verdict']].mark}" if row["verdict"] else ""
    return f"{number(row['value'], 3)} ({signed(row['delta'], 3)}){mark}"


def _correlation_lines(correlations: Sequence[dict[str, Any]]) -> str:
    lines = ["Spearman correlation with accuracy, and its 95 % interval over examples:"]
    for row in sorted(correlations, key=lambda row: (row["metric"], row["scope"])):
        if row["metric"] not in level_rows.HEADLINE_METRICS:
            continue
        count = row["level_count"]
        over = f"{row['scope']} levels" + ("" if count is None else f" ({count})")
        line = f"  {label(row['metric'])} over {over}: "
        if row["spearman"] is None:
            line += f"none ({row['note']})"
        else:
            reach = interval(row["spearman_low"], row["spearman_high"])
            line += signed(row["spearman"]) + (f", {reach}" if reach else ", interval not known")
        lines.append(line)
    return "\n".join(lines)
