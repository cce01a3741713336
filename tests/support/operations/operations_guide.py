"""docs/operations.md, run command by command against a server and workers of its own."""

import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TypeVar
from uuid import UUID

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Completed
from typer.testing import CliRunner

from prunelake.cli.app import app
from prunelake.flows.watch import DeploymentLauncher
from prunelake.settings import Settings
from prunelake.watch.round_lines import RoundLine
from prunelake.watch.rounds import WatchRound
from prunelake.watch.watchlist import read_watchlist
from tests.support.limits import HANG_S
from tests.support.operations.prefect_commands import run_prefect
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/operations.md").read_text("utf-8")
SMALL_SWEEP = (
    '"rows": {"first": 3}, "levels": [0, 1], "explain": null, "strategy": {"name": "random"}'
)

MAX_RETRIES = "60"
"""How often a client of Prefect asks again while the server is too busy to answer."""

T = TypeVar("T")


def shell_commands(text: str) -> list[str]:
    """The lines of the shell blocks of a page."""
    return "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).splitlines()


def wait_for(ask: Callable[[], T | None], event: str) -> T:
    """The first answer that is not empty; the error of a timeout names the event."""
    end = time.monotonic() + HANG_S
    while time.monotonic() < end:
        answer = ask()
        if answer:
            return answer
        time.sleep(1.0)
    raise TimeoutError(f"waited {HANG_S:.0f} s for {event}")


class GuideRun:
    """A folder with the deployments, a watchlist and a tiny model, and the page's commands.

    `run`, `run_process` and `start` do the next command of the page, which must be the given
    command.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.left = shell_commands(PAGE)
        self.poll_count = 0
        self.model = model
        self._port = str(free_port())
        self._ray_port = str(free_port("127.0.0.2"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(
                [f"{ROOT}/lib", str(ROOT), os.environ.get("PYTHONPATH", "")]
            ),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            # On a busy machine the server's SQLite is locked for longer than the defaults allow.
            "PREFECT_SERVER_DATABASE_TIMEOUT": "120",
            "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "120",
            "PREFECT_CLIENT_MAX_RETRIES": MAX_RETRIES,
            # With this a worker logs that it has found a run and is at its limit.
            "PREFECT_LOGGING_LOGGERS_PREFECT_WORKERS_LEVEL": "DEBUG",
            "PRUNELAKE_CACHE": str(folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "160",
            # The sockets in it may not have long names.
            "RAY_TMPDIR": mkdtemp(prefix="ray"),
        }
        deployments = (ROOT / "prefect.yaml").read_text("utf-8")
        # Its scheduled hour must not come while the test follows the page.
        later = f"{(datetime.now(UTC).minute + 30) % 60} * * * *"
        changes = {"0 * * * *": later, "PRUNELAKE_DEVICE: cuda": "PRUNELAKE_DEVICE: cpu"}
        for old, new in changes.items():
            deployments = deployments.replace(old, new)
        (folder / "prefect.yaml").write_text(deployments)
        entry = {"model": str(model), "tasks": ["everyday_knowledge"], "strategies": ["random:1"]}
        small = {"rows": {"first": 3}, "levels": [0, 1], "explain": None}
        listed = {"defaults": small, "models": [entry]}
        (folder / "watchlist.yaml").write_text(yaml.safe_dump(listed))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    def exports(self) -> None:
        """Set the variables that the page exports, from here on."""
        while self.left[0].startswith("export "):
            name, _, value = self._next("export ").removeprefix("export ").partition("=")
            self._env[name] = value.replace("$PWD", str(self.folder))

    def run(self, begins: str) -> str:
        """Do the next command of `prefect` or `prunelake` in this process; return its output.

        A process of its own would import everything again, which takes seconds.
        """
        command = self._next(begins)
        program, *arguments = shlex.split(command)
        with chdir(self.folder):
            if program == "prefect":
                return run_prefect(arguments)
            assert program == "prunelake", command
            result = CliRunner().invoke(app, arguments, env=self._env)
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"
        return result.stdout

    def run_process(self, begins: str) -> None:
        """Do the next command in a process of its own."""
        command = self._next(begins)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_S,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"

    def skip(self, begins: str) -> None:
        """Leave out the next command of the page."""
        self._next(begins)

    def start(self, begins: str) -> str:
        """Start the next command and leave it running; return the command."""
        command = self._next(begins)
        self.again(command)
        return command

    def again(self, command: str) -> None:
        """Start a command again."""
        log = (self.folder / f"{len(self._processes)}.log").open("wb")
        with log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes.append(process)

    def kill(self, place: int) -> None:
        """Kill the processes that were started at this place, as if their machine died."""
        self._processes[place].kill()
        self._processes[place].wait()

    def log(self, place: int) -> str:
        """The output of a started command."""
        return (self.folder / f"{place}.log").read_text("utf-8")

    def ray_logs(self) -> str:
        """The output of the workers of the page's Ray cluster."""
        logs = Path(self._env["RAY_TMPDIR"]).glob("ray/session_latest/logs/worker-*")
        return "".join(log.read_text("utf-8") for log in logs)

    def is_healthy(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def flow_runs(self, name: str, scheduled: bool = False) -> list[FlowRun]:
        """The flow runs of a flow, the oldest first: the scheduled runs, or all other runs."""
        with get_client(sync_client=True) as client:
            flows = {flow.id for flow in client.read_flows() if flow.name == name}
            found = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC)
        return [run for run in found if run.flow_id in flows and run.auto_scheduled is scheduled]

    def pause_automations(self) -> None:
        """From now on, no deployment triggers another deployment."""
        with get_client(sync_client=True) as client:
            for automation in client.read_automations():
                client.pause_automation(automation.id)

    def workers(self, pool: str) -> set[str]:
        """The names of the workers of a pool that have reported to the server."""
        with get_client(sync_client=True) as client:
            return {worker.name for worker in client.read_workers_for_work_pool(pool)}

    def flow_run(self, run_id: UUID) -> FlowRun:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(run_id)

    def stop(self) -> None:
        """End all started processes and their children."""
        for process in reversed(self._processes[1:]):
            process.terminate()
        for process in self._processes[1:]:
            _wait(process)
        for run in self.flow_runs("sweep") if self._processes and self.is_healthy() else ():
            if run.state is not None and run.state.is_running():
                with suppress(ProcessLookupError):
                    os.kill(pid(run), signal.SIGKILL)
        for process in self._processes[:1]:
            process.terminate()
            _wait(process)
        rmtree(self._env["RAY_TMPDIR"], ignore_errors=True)

    def _next(self, begins: str) -> str:
        command = self.left.pop(0)
        assert begins in command, f"the page goes on with {command!r}, not with {begins!r}"
        command = command.replace("4200", self._port).replace("6379", self._ray_port)
        command = command.replace('"rows": {"first": 20}', SMALL_SWEEP)
        return re.sub(r"package:[\w./-]+", str(self.model), command)


@contextmanager
def guide_run(folder: Path, model: Path) -> Iterator[GuideRun]:
    place = GuideRun(folder, model)
    with temporary_settings({PREFECT_API_URL: place.url, PREFECT_CLIENT_MAX_RETRIES: MAX_RETRIES}):
        try:
            yield place
        finally:
            place.stop()


def round_of(place: GuideRun) -> list[RoundLine]:
    settings = Settings(lake=place.lake, cache=place.folder / "cache")
    return WatchRound(
        read_watchlist(place.folder / "watchlist.yaml"), settings, DeploymentLauncher()
    ).run()


def finished(place: GuideRun, run: FlowRun) -> FlowRun:
    """Wait for the end of a flow run."""

    def ended() -> FlowRun | None:
        now = place.flow_run(run.id)
        return now if now.state is not None and now.state.is_final() else None

    return wait_for(ended, f"the end of {run.name}")


def published_after(place: GuideRun, sweep: FlowRun) -> FlowRun:
    """Wait for the publication that follows a sweep; without one, emit the end of the sweep again.

    On a busy machine the server's SQLite is locked for moments, in which a trigger may be lost.
    """

    def publication() -> FlowRun | None:
        if found := place.flow_runs("publish"):
            return found[0]
        place.poll_count += 1
        if place.poll_count % 60 == 0:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(sweep.id, Completed(), force=True)
        return None

    return wait_for(publication, "a publication")


def pid(run: FlowRun) -> int:
    """The process of a flow run that a process worker started on this machine."""
    return int(str(run.infrastructure_pid).rpartition(":")[2])


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port(host: str = "127.0.0.1") -> int:
    """A port below the range of outgoing connections, so that no connection takes it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server((host, port)):
            return port
