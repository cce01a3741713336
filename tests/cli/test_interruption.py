"""Signals to a command whose main thread does not leave by itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prunelake.cli.interruption import quick_stop

COMMAND = """
import atexit, signal, sys, time
from prunelake.cli import interruption

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
atexit.register(interruption.end_if_interrupted)
interruption.DEADLINES_S = {number: 0.2 for number in interruption.DEADLINES_S}
can_continue = bool(int(sys.argv[1]))
sys.argv = ["prunelake", "sweep", "my task.yaml"]
with interruption.quick_stop(can_continue), interruption.quick_stop():
    try:
        print("started", flush=True)
        time.sleep(600)
    finally:  # like Prefect's client, which asks a dead server for minutes
        time.sleep(600)
"""

NOTE = "interrupted; finished examples are kept. To continue: prunelake sweep 'my task.yaml'\n"


@contextmanager
def started(can_continue: bool) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(int(can_continue))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("number", "can_continue", "exit_code", "note"),
    [
        (signal.SIGINT, True, 130, NOTE),
        (signal.SIGINT, False, 130, ""),
        (signal.SIGTERM, True, 143, ""),
    ],
)
def test_a_process_that_hangs_ends_at_its_deadline(
    number: int, can_continue: bool, exit_code: int, note: str
) -> None:
    with started(can_continue) as process:
        process.send_signal(number)
        _, err = process.communicate()
        assert (process.returncode, err) == (exit_code, note)


def test_the_handlers_are_restored() -> None:
    # A process that was started in the background ignores Ctrl-C.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        check_that_handlers_are_restored()
    finally:
        signal.signal(signal.SIGINT, inherited)


def check_that_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with quick_stop():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with quick_stop():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
