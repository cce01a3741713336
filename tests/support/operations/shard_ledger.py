"""The flows of sweeps, with a ledger of the shards that they compute.

Deployments of tests/deploy/test_two_weeks.py run them in place of `prunelake.flows`. The file
TWO_WEEKS_LEDGER gets a line when a shard begins, and when it is stored or has failed.
"""

import os
from collections.abc import Collection, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

from prunelake.flows.sweep import sweep
from prunelake.flows.sweeps import sweeps
from prunelake.sweeps import steps

measure_shard = steps.measure_shard


class LedgerLine(NamedTuple):
    """`event` is `begin`, `stored` or `failed`; `pid` is the process that computes the shard."""

    event: str
    pid: int
    run_id: str
    shard: str


def read_ledger(path: Path) -> list[LedgerLine]:
    """The lines so far, in order."""
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    fields = (line.split() for line in lines)
    return [LedgerLine(event, int(pid), run, shard) for event, pid, run, shard in fields]


def computed_twice(lines: Sequence[LedgerLine], killed: Collection[int]) -> list[LedgerLine]:
    """The lines that begin a shard which is stored, or which another living process computes.

    `killed` are the processes that were killed.
    """
    stored: set[tuple[str, str]] = set()
    computing: dict[tuple[str, str], int] = {}
    twice = []
    for line in lines:
        shard = (line.run_id, line.shard)
        if line.event == "begin":
            if shard in stored or computing.get(shard, line.pid) not in {line.pid, *killed}:
                twice.append(line)
            computing[shard] = line.pid
        else:
            computing.pop(shard, None)
            if line.event == "stored":
                stored.add(shard)
    return twice


@wraps(measure_shard)
def noted(work: Any, order: Any, settings: Any, partial_run: Any, **named: Any) -> Any:
    _note("begin", partial_run.run_id, work.shard.name)
    try:
        cost = measure_shard(work, order, settings, partial_run, **named)
    except BaseException:  # also of a process that is told to end
        _note("failed", partial_run.run_id, work.shard.name)
        raise
    _note("stored", partial_run.run_id, work.shard.name)
    return cost


def _note(event: str, run_id: str, shard: str) -> None:
    ledger = os.open(os.environ["TWO_WEEKS_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(ledger, f"{event} {os.getpid()} {run_id} {shard}\n".encode())
    os.close(ledger)


if "TWO_WEEKS_LEDGER" in os.environ:
    steps.measure_shard = noted

__all__ = ["sweep", "sweeps"]
