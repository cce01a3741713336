"""What a sweep showed, as tables for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from api import findings, queries
from prunelake import views

HEADLINES = ("accuracy", "ece", "comprehensiveness", "sufficiency")
CORRELATED = HEADLINES[1:]


def print_summary(lake: Path, run_ids: Sequence[str], console: Console | None = None) -> None:
    """Print for each run its headline metrics by level, what they say, and the correlations."""
    console = console or Console()
    with views.connect(lake) as connection:
        for run_id in run_ids:
            console.print(_level_table(queries.summary(connection, run_id).to_dicts()))
            levels = queries.levels(connection, run_id)
            console.print(f"{findings.summary(levels)} {findings.caveat(levels)}", highlight=False)
            console.print(_correlation_lines(queries.correlations(connection, run_id).to_dicts()))


def _level_table(levels: Sequence[dict[str, Any]]) -> Table:
    first = levels[0]
    title = f"{first['task']}, {findings.order(first['strategy'])}: {first['n']} examples"
    if first["method"]:
        title += f", {first['explained_n']} of them explained by {first['method']}"
    table = Table(
        title=title,
        title_justify="left",
        caption="in brackets: difference from the unpruned model (0 layers removed)",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("removed", justify="right", no_wrap=True)
    shown = [name for name in HEADLINES if first[name] is not None]
    for name in shown:
        table.add_column(findings.label(name), justify="right", no_wrap=True)
    for row in levels:
        table.add_row(str(row["level"]), *[_cell(row, name) for name in shown])
    return table


def _cell(row: dict[str, Any], name: str) -> str:
    value, delta = row[name], row[f"{name}_delta"]
    if value is None:
        return ""
    return f"{value:.3f}" + ("" if row["level"] == 0 else f" ({delta:+.3f})")


def _correlation_lines(correlations: Sequence[dict[str, Any]]) -> str:
    lines = ["Correlation with accuracy over the levels:"]
    for row in sorted(correlations, key=lambda row: row["metric"]):
        if row["metric"] not in CORRELATED or row["scope"] != "all":
            continue
        name = findings.label(row["metric"])
        if row["pearson"] is None:
            lines.append(f"  {name}: none ({row['note']})")
        else:
            lines.append(
                f"  {name}: Pearson {row['pearson']:+.2f}, Spearman {row['spearman']:+.2f} "
                f"({row['level_count']} levels)"
            )
    return "\n".join(lines)
