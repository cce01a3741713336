"""Two weeks of operations with a faster clock: real services, workers, sweeps and failures.

Each day the hub has a new revision of a model, and a folder a new checkpoint. Each night something
is killed. On one day the server is down, and on another one the disk of the lake is full. A model
on the hub never loads.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
from prometheus_client.parser import text_string_to_metric_families

from prunelake.errors import PruneLakeError
from prunelake.lake import read as lake_read
from prunelake.lake.files.paths import SNAPSHOT_FILE
from tests.support.limits import HANG_S
from tests.support.operations.operations_guide import free_port
from tests.support.operations.shard_ledger import LedgerLine, read_ledger
from tests.support.operations.two_weeks_files import (
    BROKEN_MODEL,
    CHECKPOINT_TASKS,
    HUB_MODEL,
    HUB_TASKS,
    write_deployments,
    write_watchlist,
)
from tests.support.paths import ROOT
from tests.support.servers.hub_server import repository_pages
from tests.support.servers.postgres import Postgres
from tests.support.servers.services import Services

WORKERS = ("prunelake-gpu@0", "prunelake-gpu@1")
SERVICES = ("prunelake-server", "prunelake-cpu", *WORKERS, "prunelake-api")


def commit_of(day: int) -> str:
    """The commit of the hub's model on a day."""
    return hashlib.sha1(f"day {day}".encode()).hexdigest()


@dataclass
class Day:
    """The end of a day: bytes of database and lake, and numbers of processes and runs."""

    night: str
    database_bytes: int
    lake_bytes: int
    process_count: int
    run_count: int
    seconds: float


@dataclass
class TwoWeeks:
    """The site of a simulation; `model` makes a folder with the weights of a number."""

    folder: Path
    postgres: Postgres
    hub: str
    pages: dict[str, bytes]
    model: Callable[[int, Path], Path]
    day_s: float
    days: list[Day] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lake = self.folder / "lake"
        self.checkpoints = self.folder / "checkpoints"
        self.checkpoints.mkdir()
        self.expected: set[tuple[str, str]] = set()
        """The revision (a commit) or the folder of each model, and the task."""
        self.killed: set[int] = set()
        """The processes of sweeps that were killed."""
        self.first_database_bytes = 0
        self.metrics: dict[str, float] = {}
        """The last metrics before the end."""
        self.orphans: list[str] = []
        """The processes at the end that belong to no service."""
        self.unordered_ends: dict[str, int] = {}
        """How often each service ended without a kill."""
        self.left_after_stop: list[str] = []
        """The processes that are left when all services have stopped."""
        port, self.api_port = str(free_port()), str(free_port())
        self.services = Services(
            self.folder,
            {
                "PATH": f"{Path(shutil.which('python') or '').parent}:{os.environ['PATH']}",
                "PYTHONPATH": f"{ROOT}/lib:{ROOT}",
                "PREFECT_API_DATABASE_CONNECTION_URL": self.postgres.url,
                "HF_ENDPOINT": self.hub,
                "HF_HOME": str(self.folder / "hub"),
                "HF_HUB_OFFLINE": "0",
                "NO_PROXY": "127.0.0.1",
                "OMP_NUM_THREADS": "1",
                "TWO_WEEKS_DAY_S": str(self.day_s),
                "TWO_WEEKS_LEDGER": str(self.folder / "ledger"),
            },
            {"4200": port, "8000": self.api_port},
        )
        write_deployments(self.folder, self.day_s)
        write_watchlist(self.folder)
        broken = self.model(10_000, self.folder / "broken")
        (broken / "model.safetensors").write_bytes(b"these are no weights")
        self.pages.update(repository_pages(BROKEN_MODEL, commit_of(-1), broken))

    def start(self) -> None:
        """Start the server, deploy, and start all other services."""
        self.services.start("prunelake-server")
        self.services.wait_for(self.is_server_up, "the server")
        for pool in ("gpu", "cpu"):
            self.prefect("work-pool", "create", pool, "--type", "process")
        self.prefect("--no-prompt", "deploy", "--all")
        self.first_database_bytes = self.postgres.size
        for name in SERVICES[1:]:
            self.services.start(name)

    def prefect(self, *arguments: str) -> str:
        """Run a command of Prefect; return its output."""
        return subprocess.run(
            [self.services.installed / "prefect", *arguments],
            cwd=self.folder,
            env=self.services.variables(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def is_server_up(self) -> bool:
        """Whether the Prefect server answers."""
        url = self.services.variables()["PREFECT_API_URL"]
        done = subprocess.run(["curl", "-sf", "-m", "5", f"{url}/health"], capture_output=True)
        return done.returncode == 0

    def release(self, day: int) -> None:
        """Publish a revision on the hub, and save a checkpoint."""
        folder = self.model(2 * day, self.folder / f"model{day}")
        self.pages.update(repository_pages(HUB_MODEL, commit_of(day), folder))
        staged = self.model(2 * day + 1, self.folder / f"staged{day}")
        checkpoint = staged.rename(self.checkpoints / f"step-{day:02}")
        self.expected |= {(commit_of(day), task) for task in HUB_TASKS}
        self.expected |= {(str(checkpoint), task) for task in CHECKPOINT_TASKS}

    def live(self, day: int, *, is_server_down: bool = False, is_disk_full: bool = False) -> None:
        """A day: a release, a kill, maybe an outage, and the evaluation of the release."""
        started = time.monotonic()
        seen = len(self.ledger())
        self.release(day)
        self.services.wait_for(lambda: len(self.ledger()) > seen, "a shard of the release")
        night = self.kill(day)
        if is_server_down:
            self.services.kill("prunelake-server", main=True, children=True)
            server = self.services.units.pop("prunelake-server")
            night += ", server down"
        if is_disk_full:
            self.fill_disk()
            night += ", disk full"
        outage_end = time.monotonic() + self.day_s * (is_server_down or is_disk_full)
        self.services.wait_for(
            lambda: time.monotonic() > max(outage_end, started + self.day_s), "the evening"
        )
        if is_server_down:
            self.services.units["prunelake-server"] = server
        if is_disk_full:
            (self.lake / "filler").unlink()
        self.services.wait_for(lambda: self.expected <= {*self.evaluated()}, "the evaluations")
        self.days.append(
            Day(
                night,
                self.postgres.size,
                sum(file.stat().st_size for file in self.lake.rglob("*") if file.is_file()),
                len([*self.services.processes()]),
                len(self.evaluated()),
                time.monotonic() - started,
            )
        )

    def finish(self) -> None:
        """Wait until all is evaluated, published and parked; stop the services."""
        self.services.wait_for(
            lambda: self.published() == len(self.expected), "the last publication"
        )
        self.services.wait_for(
            lambda: (
                [(it["state"], it["retry_at"]) for it in attempts(self.lake)] == [("failed", None)]
            ),
            "the end of all attempts but those of the broken model",
        )
        quiet = ("evaluations_in_flight", "unfinished_runs", "unfinished_shards", "doctor_problems")
        self.services.wait_for(
            lambda: all(self.read_metrics().get(f"prunelake_{name}") == 0 for name in quiet),
            "metrics without work or problems",
        )
        self.metrics = self.read_metrics()
        self.orphans = self.services.orphans()
        self.unordered_ends = {
            name: unit.unordered_ends for name, unit in self.services.units.items()
        }
        self.stop()
        self.left_after_stop = [" ".join(it.cmdline()) for it in self.services.processes()]

    def stop(self) -> None:
        """Stop the services that run, the server last."""
        for name in reversed(SERVICES):
            if name in self.services.units:
                self.services.stop(name)

    def kill(self, day: int) -> str:
        """Kill a sweep, its worker, or both, in turn; says which."""
        pid = self.ledger()[-1].pid
        worker = next(
            (name for name in WORKERS if self._is_descendant(name, pid)), WORKERS[day % 2]
        )
        killed = (("worker", "sweep"), ("sweep",), ("worker",))[day % 3]
        self.killed |= self.services.kill(
            worker, main="worker" in killed, children="sweep" in killed
        )
        return f"{' and '.join(killed)} killed"

    def fill_disk(self) -> None:
        """Leave no byte free on the disk of the lake."""
        with (self.lake / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(1 << 16))
            except OSError:
                return

    def ledger(self) -> list[LedgerLine]:
        """The shards that sweeps have begun and stored."""
        return read_ledger(self.folder / "ledger")

    def evaluated(self) -> list[tuple[str, str]]:
        """The model of each run in the lake, as in `expected`, and its task."""
        columns = ["run_id", "model", "revision", "task"]
        try:
            runs = lake_read.read_run_columns(self.lake, columns).unique("run_id")
        except PruneLakeError:
            return []
        return [
            (revision if model.startswith("hub:") else model, task)
            for model, revision, task in runs.select(columns[1:]).iter_rows()
        ]

    def published(self) -> int:
        """The number of runs in the published snapshot."""
        with duckdb.connect(str(self.lake / SNAPSHOT_FILE), read_only=True) as connection:
            row = connection.execute("select count(distinct run_id) from runs").fetchone()
        assert row is not None
        return int(row[0])

    def read_metrics(self) -> dict[str, float]:
        """The numbers of operations that the API shows to monitors."""
        address = f"http://127.0.0.1:{self.api_port}/metrics"
        text = urllib.request.urlopen(address, timeout=HANG_S).read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.labels
        }

    def flow_runs(self) -> Counter[tuple[str, str]]:
        """The number of flow runs by flow and state, without those of the future."""
        rows = self.postgres.ask(
            "select f.name, r.state_name, count(*) from flow_run r join flow f on f.id = r.flow_id "
            "where r.start_time is not null or r.state_type <> 'SCHEDULED' group by 1, 2"
        ).splitlines()
        fields = (row.split("|") for row in rows)
        return Counter({(flow, state): int(count) for flow, state, count in fields})

    def failed_sweeps(self) -> list[tuple[str, str]]:
        """The name and the state of each flow run of a sweep that failed or crashed."""
        rows = self.postgres.ask(
            "select r.name, r.state_name from flow_run r join flow f on f.id = r.flow_id "
            "where f.name in ('sweep', 'sweeps') and r.state_type in ('FAILED', 'CRASHED')"
        ).splitlines()
        return [(name, state) for name, _, state in (row.rpartition("|") for row in rows)]

    def _is_descendant(self, name: str, pid: int) -> bool:
        return pid in {process.pid for process in self.services.units[name].descendants()}


def attempts(lake: Path) -> list[dict[str, object]]:
    """The attempts of `watch` in the lake."""
    return [json.loads(file.read_text("utf-8")) for file in lake.glob(".watch/*.json")]
