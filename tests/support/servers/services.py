"""The services of deploy/systemd, started and restarted as systemd does."""

import configparser
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.limits import HANG_S
from tests.support.paths import ROOT

UNITS = ROOT / "deploy/systemd"
INSTALLED = "/opt/prunelake/bin"
FOLDER = "/var/lib/prunelake"

PATIENCE_S = 4 * HANG_S
"""A limit for several sweeps and repetitions of sweeps on a busy machine."""


def environment_file() -> dict[str, str]:
    """The variables of prunelake.env."""
    lines = (UNITS / "prunelake.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@dataclass
class Service:
    """A unit: its command, its process, and when it ended without an order."""

    name: str
    command: list[str]
    environment: dict[str, str]
    restart_delay_s: float
    process: subprocess.Popen[bytes] | None = None
    ended_at: float | None = None
    unordered_ends: int = 0
    is_killed: bool = False

    def descendants(self) -> list[psutil.Process]:
        """The processes of the service without its main process."""
        if self.process is None or self.process.poll() is not None:
            return []
        return list(psutil.Process(self.process.pid).children(recursive=True))


@dataclass
class Services:
    """The units by name, in a folder in place of /var/lib/prunelake.

    `installed` takes the place of /opt/prunelake/bin, `environment` goes before prunelake.env, and
    `ports` replace the ports of the units.
    """

    folder: Path
    environment: Mapping[str, str]
    ports: Mapping[str, str]
    installed: Path = Path(sys.executable).parent
    units: dict[str, Service] = field(default_factory=dict)
    slowest_end_s: float = 0.0
    """The longest time after a kill until no child of the service was left."""

    def variables(self) -> dict[str, str]:
        """The environment of all services."""
        own = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
        given = {name: self._moved(text) for name, text in environment_file().items()}
        return {**own, **given, **self.environment}

    def start(self, name: str) -> None:
        """Start a unit, such as `prunelake-gpu@0`."""
        template, _, instance = name.partition("@")
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
        file = UNITS / f"{template}{'@' if instance else ''}.service"
        unit.read_string(file.read_text("utf-8"))
        service = unit["Service"]
        command = service["ExecStart"].replace("%H", "host").replace("%i", instance)
        self.units[name] = Service(
            name,
            shlex.split(self._moved(command)),
            dict([service["Environment"].replace("%i", instance).split("=", 1)])
            if "Environment" in service
            else {},
            float(service["RestartSec"]),
        )
        self._launch(self.units[name])

    def supervise(self) -> None:
        """Restart ended services, after the delay of their units."""
        for service in self.units.values():
            if service.process is None or service.process.poll() is None:
                continue
            if service.ended_at is None:
                service.ended_at = time.monotonic()
                service.unordered_ends += not service.is_killed
            elif time.monotonic() - service.ended_at > service.restart_delay_s:
                self._launch(service)

    def wait_for(self, condition: Callable[[], object], event: str) -> None:
        """Supervise until a condition holds."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end, f"waited {PATIENCE_S:.0f} s for {event}"
            self.supervise()
            time.sleep(0.3)

    def kill(self, name: str, *, main: bool, children: bool) -> set[int]:
        """Kill the main process of a unit, which is then restarted, or its children, or all.

        Children end after the main process. Returns the ids of those that have ended.
        """
        service = self.units[name]
        assert service.process is not None
        descendants = service.descendants()  # before they lose their parent
        if main:
            service.is_killed = True
            service.process.kill()
        for process in descendants if children else ():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        killed_at = time.monotonic()
        _, alive = psutil.wait_procs(descendants, timeout=HANG_S)
        assert not alive, f"{name} was killed, and its children remain: {alive}"
        self.slowest_end_s = max(self.slowest_end_s, time.monotonic() - killed_at)
        return {process.pid for process in descendants}

    def stop(self, name: str) -> None:
        """Stop a unit like `systemctl stop`: SIGTERM, and no restart.

        Its other processes have the time to end. (systemd would kill them.)
        """
        service = self.units.pop(name)
        if service.process is not None:
            descendants = service.descendants()
            service.process.send_signal(signal.SIGTERM)
            try:
                service.process.wait(timeout=HANG_S)
            except subprocess.TimeoutExpired:
                service.process.kill()
                raise
            psutil.wait_procs(descendants, timeout=HANG_S)

    def log(self, name: str) -> str:
        """The output of a unit since its first start."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def processes(self) -> Iterator[psutil.Process]:
        """All processes of this machine whose environment names this folder."""
        mark = str(self.folder)
        for process in psutil.process_iter():
            try:
                if process.environ().get("PREFECT_HOME", "").startswith(mark):
                    yield process
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue

    def orphans(self) -> list[str]:
        """The commands of these processes that no running service has started."""
        found = [*self.processes()]  # first: those that start meanwhile are no orphans
        mains = [it.process.pid for it in self.units.values() if it.process is not None]
        own = {*mains, *(p.pid for it in self.units.values() for p in it.descendants())}
        return [
            " ".join(process.cmdline())
            for process in found
            if process.pid not in own and process.is_running()
        ]

    def _launch(self, service: Service) -> None:
        service.ended_at = None
        service.is_killed = False
        with (self.folder / f"{service.name}.log").open("ab") as log:
            service.process = subprocess.Popen(
                service.command,
                cwd=self.folder,
                env=self.variables() | service.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _moved(self, text: str) -> str:
        text = text.replace(INSTALLED, str(self.installed)).replace(FOLDER, str(self.folder))
        for old, new in self.ports.items():
            text = text.replace(old, new)
        return text
