"""Stop a command quickly: Ctrl-C ends the process within two seconds, SIGTERM within four.

Python runs a signal handler only between two steps of its main thread, and Prefect's client asks a
dead server for minutes before it gives up; a query of DuckDB may go on to its end. So a separate
thread enforces the deadline.
"""

import os
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import NoReturn

DEADLINES_S = {signal.SIGINT: 1.5, signal.SIGTERM: 3.5}
"""The time that a process has to leave after a signal. Then it ends at once."""

_ended_by: list[int] = []
"""The signals that have interrupted this process."""

_active_blocks: list[socket.socket] = []


@contextmanager
def quick_stop(can_continue: bool = True) -> Iterator[None]:
    """Let a signal end this process quickly until the end of the block.

    The exit code is 130 after Ctrl-C and 143 after SIGTERM. After Ctrl-C, a line on stderr says how
    to continue, if the command `can_continue`. Inside another block, in another thread than the
    main thread, and in a process that ignores Ctrl-C (`nohup`), nothing changes.
    """
    is_ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if _active_blocks or is_ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    _active_blocks.append(writer)
    handlers = {number: signal.signal(number, _interrupt) for number in DEADLINES_S}
    # Python sends the number of each signal to this socket, whatever the main thread does.
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_enforce_deadline, args=(reader, can_continue), daemon=True)
    watcher.start()
    try:
        yield
    except KeyboardInterrupt:
        if can_continue:
            _say_how_to_continue()
        raise
    finally:
        _active_blocks.clear()
        if not _ended_by:  # otherwise the deadline stays
            signal.set_wakeup_fd(previous)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            writer.close()
            watcher.join()
            reader.close()


def end_if_interrupted() -> None:
    """End an interrupted process now: the interpreter would tidy up torch's modules for seconds."""
    if _ended_by:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + _ended_by[0])


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    _ended_by.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _enforce_deadline(signals: socket.socket, can_continue: bool) -> None:
    """Wait for a signal, then for its deadline or a second signal; then end the process."""
    while received := signals.recv(1):
        number = received[0]
        if number not in DEADLINES_S:
            continue
        signals.settimeout(DEADLINES_S[signal.Signals(number)])
        try:
            signals.recv(1)
        except TimeoutError:
            if number == signal.SIGINT and can_continue:
                _say_how_to_continue()
        os._exit(128 + number)


@cache  # once in a process
def _say_how_to_continue() -> None:
    command = shlex.join(["prunelake", *sys.argv[1:]])
    text = f"interrupted; finished examples are kept. To continue: {command}\n"
    os.write(2, text.encode())  # the stream of Python may be locked by the main thread
