"""Print the result of a gate."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prunelake.gate.results import GateResult
from prunelake.gate.table_cells import COLUMNS, cells, notes


def print_gate(result: GateResult, console: Console | None = None) -> None:
    """Print a table of checks for each task, the notes, and the result of the gate.

    The log of a CI job is not a terminal, so a table has its full width there.
    """
    console = console or Console()
    for task in dict.fromkeys(check.task for check in result.checks):
        table = Table(
            title=escape(task), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        for name in COLUMNS:
            table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
        for check in result.checks:
            if check.task == task:
                table.add_row(*map(escape, cells(check)))
        if not console.is_terminal:
            wide = console.options.update(max_width=1000)
            console.width = max(console.width, console.measure(table, options=wide).maximum)
        console.print(table)
    for line in (*notes(result), result.summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
