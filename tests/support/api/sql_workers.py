"""The processes of a server that run SQL, seen through /proc."""

import re
import time
from contextlib import suppress
from pathlib import Path


def workers_of(pid: int) -> set[int]:
    """The child processes of a process."""
    children = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, rest = status.read_text().rpartition(") ")
            if int(rest.split()[1]) == pid:
                children.add(int(status.parent.name))
    return children


def alive(pids: set[int]) -> set[int]:
    """The processes that still run after 10 s."""
    until = time.monotonic() + 10
    while left := {pid for pid in pids if Path(f"/proc/{pid}").exists()}:
        if time.monotonic() > until:
            return left
        time.sleep(0.05)
    return left


def is_at_work(pid: int) -> bool:
    """Whether a worker has read its query: it can then open no file."""
    with suppress(OSError):
        return re.search(r"Max open files +0 ", Path(f"/proc/{pid}/limits").read_text()) is not None
    return False
