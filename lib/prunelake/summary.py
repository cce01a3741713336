"""What a sweep showed, as tables for a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from prunelake import views

HEADLINES = ("accuracy", "ece", "comprehensiveness", "sufficiency")
CORRELATED = ("ece", "comprehensiveness", "sufficiency")
NAMES = {"ece": "ECE"}


def print_summary(lake: Path, run_ids: Sequence[str], console: Console | None = None) -> None:
    """Print a table a run: the headline metrics at each level and what goes along with accuracy."""
    console = console or Console()
    with views.connect(lake) as connection:
        for run_id in run_ids:
            chosen = f"run_id = '{run_id}'"
            levels = views.select(
                connection, f"select * from summary where {chosen} order by level"
            )
            correlations = views.select(
                connection,
                f"""
                select metric, pearson, spearman, level_count, note
                from correlations
                where {chosen} and coalesce(variant, 'eraser') = 'eraser' and (
                    metric = 'ece'
                    or (method, operator) = (
                        select (any_value(method), any_value(operator))
                        from summary where {chosen}
                    )
                )
                """,
            )
            console.print(_level_table(levels.to_dicts()))
            console.print(_correlation_lines(correlations.to_dicts()))


def _level_table(levels: Sequence[dict[str, Any]]) -> Table:
    first = levels[0]
    title = f"{first['task']}, {first['strategy']} order: {first['n']} examples"
    if first["method"]:
        title += f", {first['explained_n']} of them explained by {first['method']}"
    table = Table(
        title=title,
        title_justify="left",
        caption="in brackets: difference from the unpruned model (0 layers removed)",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("removed", justify="right")
    shown = [name for name in HEADLINES if first[name] is not None]
    for name in shown:
        table.add_column(NAMES.get(name, name), justify="right", no_wrap=True)
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
        if row["metric"] not in CORRELATED:
            continue
        name = NAMES.get(row["metric"], row["metric"])
        if row["pearson"] is None:
            lines.append(f"  {name}: none ({row['note']})")
        else:
            lines.append(
                f"  {name}: Pearson {row['pearson']:+.2f}, Spearman {row['spearman']:+.2f} "
                f"({row['level_count']} levels)"
            )
    return "\n".join(lines) + "\n"
