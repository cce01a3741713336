"""A server in a separate process, for benchmarks that measure it from outside."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Server:
    """A running `prunelake serve`: its host:port, and its process id."""

    address: str
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of its process, without those that it started, up to now."""
        return float(sum(psutil.Process(self.pid).cpu_times()[:2]))


@contextmanager
def served(lake: Path, log: Path, **settings: str) -> Iterator[Server]:
    """Serve a lake at a free port; `settings` are environment variables, stderr goes to `log`."""
    command = [sys.executable, "-c", "from prunelake.cli.app import main; main()"]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command, "serve", "--lake", str(lake), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | settings,
        )
    try:
        assert process.stdout is not None
        told = ""
        while not (found := re.search(r"at http://(127\.0\.0\.1:\d+)/", told)):
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"the server did not start: {told}{log.read_text()}")
            told += line
        yield Server(found[1], process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
