"""A PostgreSQL server of a test, from the binaries of Debian's package `postgresql`."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.support.limits import HANG_S
from tests.support.operations.operations_guide import free_port

SYSTEM_USER = "nobody"
"""PostgreSQL refuses to run as root."""


@dataclass(frozen=True)
class Postgres:
    """A server on loopback with the database `prefect`."""

    binaries: Path
    port: int

    @property
    def url(self) -> str:
        """The address of the database for a Prefect server."""
        return f"postgresql+asyncpg://prunelake@127.0.0.1:{self.port}/prefect"

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which `psql`, `pg_dump` and `createdb` find the server."""
        return {
            "PATH": f"{self.binaries}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "prunelake",
        }

    def run(self, *command: str) -> str:
        """Run a program of PostgreSQL as the owner of the database; return its output."""
        done = subprocess.run(
            [str(self.binaries / command[0]), *command[1:]],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, query: str) -> str:
        """The answer to a query, one line a row, columns separated by |."""
        return self.run("psql", "-At", "prefect", "-c", query).strip()

    @property
    def size(self) -> int:
        """The bytes of the database."""
        return int(self.ask("select pg_database_size('prefect')"))


def require_binaries() -> Path:
    """The folder of PostgreSQL's newest binaries; skips the test if there are none."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    if newest := max(found, key=lambda path: int(path.parts[-3]), default=None):
        return newest.parent
    pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server of its own, in a temporary folder and as a user without rights."""
    server = Postgres(require_binaries(), int(free_port()))
    folder = Path(mkdtemp(prefix="postgres"))
    user = None
    if os.getuid() == 0:
        user = SYSTEM_USER
        shutil.chown(folder, user)
    options = f"-p {server.port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off".split()
    initialise = ["initdb", "-D", "data", "--auth=trust", "--username=prunelake", "--no-sync"]
    subprocess.run(
        [server.binaries / initialise[0], *initialise[1:]],
        cwd=folder,
        user=user,
        check=True,
        capture_output=True,
    )
    process = subprocess.Popen(
        [server.binaries / "postgres", "-D", "data", *options],
        cwd=folder,
        user=user,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ready = [str(server.binaries / "pg_isready"), "-q", "-h", "127.0.0.1"]
        end = time.monotonic() + HANG_S
        while subprocess.run([*ready, "-p", str(server.port)]).returncode:
            assert process.poll() is None, "PostgreSQL has ended"
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.2)
        server.run("createdb", "prefect")
        yield server
    finally:
        process.send_signal(signal.SIGINT)  # a fast shutdown
        process.wait(timeout=HANG_S)
        shutil.rmtree(folder)
