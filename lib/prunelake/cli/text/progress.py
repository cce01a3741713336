"""The progress of a sweep on the terminal: one line for each stage, and no log lines."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich import progress as bars
from rich.console import Console

from prunelake.sweeps.executor import LocalExecutor, Result, StepCall
from prunelake.sweeps.progress import Progress

STAGES = {
    "prepare": "task and model",
    "order_layers": "removal order",
    "measure_shard": "examples",
    "commit_run": "statistics",
    "analyse_run": "statistics",
}
"""The stage to which each step of a sweep belongs."""

EXAMPLES = STAGES["measure_shard"]


@contextmanager
def console_executor(console: Console | None = None) -> Iterator[LocalExecutor]:
    """An executor that shows its progress on stderr: bars in a terminal, plain lines elsewhere."""
    console = console or Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield LocalExecutor(lambda text: typer.echo(text, err=True))
        return
    display = bars.Progress(
        bars.TextColumn("{task.description:<14}"),
        bars.BarColumn(bar_width=12),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )
    with display:
        yield TerminalExecutor(display)


class TerminalExecutor(LocalExecutor):
    """Runs every step in this process, and shows a line for each stage.

    A line has the time that the stage has taken and, for examples, the time left.
    """

    def __init__(self, display: bars.Progress) -> None:
        super().__init__(self._show_notice)
        self._display = display
        self._lines: dict[str, bars.TaskID] = {}

    def run(self, call: StepCall[Result]) -> Result:
        """Run the step now, below the line of its stage."""
        stage = STAGES[call.step.__name__]
        line = self._line(stage)
        result = super().run(call)
        if stage != EXAMPLES:
            self._display.update(line, total=1, completed=1)
        return result

    def show(self, progress: Progress) -> None:
        """Show how many examples are done, and the time left."""
        self._display.update(
            self._line(EXAMPLES), total=1, completed=progress.share, note=progress.short_text
        )

    def _line(self, stage: str) -> bars.TaskID:
        if stage not in self._lines:
            self._lines[stage] = self._display.add_task(stage, total=None, note="")
        return self._lines[stage]

    def _show_notice(self, text: str) -> None:
        """Show a warning, or the reason for waiting; a bar replaces all other messages."""
        if text.startswith("warning") or "waiting" in text:
            self._display.console.print(text, highlight=False, markup=False)
