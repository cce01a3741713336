"""The progress of a sweep: a line for each stage in a terminal, plain lines elsewhere."""

import re
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from prunelake.cli.text.progress import console_executor
from prunelake.sweeps.executor import Log, StepCall
from prunelake.sweeps.progress import Progress

LONG = Progress(0.5, "500 of 1000 examples, 9 tokens a second", "500 of 1000, 1:40:17 left")


def prepare(*, log: Log) -> None:
    log("no GPU here: computing on the CPU")


def measure_shard(*, log: Log) -> None:
    log("warning: a damaged shard")


def shown(console: Console) -> None:
    """A sweep in miniature."""
    with console_executor(console) as executor:
        executor.run(StepCall(prepare, (), "prepare"))
        executor.run(StepCall(measure_shard, (), "examples 0 to 3"))
        executor.show(LONG)


def test_a_terminal_gets_one_line_for_each_stage_and_no_log_lines() -> None:
    stream = StringIO()
    shown(Console(file=stream, force_terminal=True, width=60, no_color=True))
    plain = re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", stream.getvalue())
    last = [line.rstrip() for line in plain.replace("\r", "\n").splitlines() if line.strip()][-2:]
    assert last[0].startswith("task and model")
    assert last[1].startswith("examples")
    assert last[1].endswith("500 of 1000, 1:40:17 left")
    assert max(cell_len(line) for line in plain.replace("\r", "\n").splitlines()) <= 60
    assert "warning: a damaged shard" in plain
    assert "no GPU here" not in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", stream.getvalue())  # NO_COLOR


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Console(file=StringIO(), force_terminal=False))
    assert capsys.readouterr().err.splitlines() == [
        "no GPU here: computing on the CPU",
        "warning: a damaged shard",
        LONG.text,
    ]
