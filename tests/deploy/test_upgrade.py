"""Upgrade, roll back, back up and restore with the commands of docs/operations.md.

The services of deploy/systemd run on PostgreSQL, from two installed versions of the package.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunelake.lake import read as lake_read
from tests.support.operations.operations_guide import PAGE, free_port
from tests.support.paths import ROOT
from tests.support.servers.postgres import Postgres, running_postgres
from tests.support.servers.services import Services

pytestmark = pytest.mark.endurance

SERVER = "prunelake-server"
OLD, NEW = "0.1.0", "0.1.1"


def commands(title: str) -> list[str]:
    """The commands in the blocks of a section of the page."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```text\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return "".join(blocks).splitlines()


class Machine:
    """A machine with services in place of those of systemd, and folders in place of its own."""

    def __init__(self, folder: Path, postgres: Postgres, wheel: Path, model: Path) -> None:
        self.folder = folder
        self.link = folder / "opt/prunelake"
        self._wheel, self._model = wheel, model
        port, api_port = str(free_port()), str(free_port())
        environment = postgres.environment | {
            "PATH": f"{self.link}/bin{os.pathsep}{postgres.environment['PATH']}",
            "PYTHONPATH": "",
            "PREFECT_API_DATABASE_CONNECTION_URL": postgres.url,
            "HF_HUB_OFFLINE": "1",
            "NO_PROXY": "127.0.0.1",
            "OMP_NUM_THREADS": "1",
        }
        self.services = Services(
            folder, environment, {"4200": port, "8000": api_port}, self.link / "bin"
        )
        deployments = (ROOT / "prefect.yaml").read_text("utf-8")
        (folder / "prefect.yaml").write_text(deployments.replace(": cuda", ": cpu"))
        (folder / "watchlist.yaml").write_text("models: []\n")

    def do(self, *lines: str) -> None:
        """Do commands of the page."""
        for line in lines:
            program, _, rest = line.partition(" ")
            if program == "systemctl":
                order, *names = rest.split()
                for name in names:
                    (self.services.stop if order == "stop" else self._start)(name)
            elif line == "/opt/prunelake-NEW/bin/pip install 'prunelake[models,flows]'":
                self.install(self.folder / "opt/prunelake-NEW", NEW)
            else:
                line = line.replace("python3 -m venv", f"{sys.executable} -m venv --without-pip")
                self.run(line.replace("su postgres -c", "bash -c"))

    def run(self, line: str) -> str:
        """Run a command in a shell; return its output."""
        done = subprocess.run(
            ["bash", "-c", line.replace("/opt/", f"{self.folder}/opt/")],
            cwd=self.folder,
            env=self.services.variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def install(self, environment: Path, version: str) -> None:
        """Install the wheel under a version; its dependencies are those of this interpreter."""
        site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": ""}))
        with zipfile.ZipFile(self._wheel) as wheel:
            wheel.extractall(site)
        (described,) = site.glob("prunelake-*.dist-info")
        metadata = described / "METADATA"
        text = re.sub(r"(?m)^Version: .*$", f"Version: {version}", metadata.read_text("utf-8"))
        metadata.write_text(text)
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        for script, module in {"prefect": "prefect.cli", "prunelake": "prunelake.cli.app"}.items():
            entry = "app" if script == "prefect" else "main"
            file = environment / "bin" / script
            file.write_text(
                f"#!{environment}/bin/python\nfrom {module} import {entry}\n"
                f"if __name__ == '__main__':\n    {entry}()\n"  # processes import it again
            )
            file.chmod(0o755)

    def evaluate(self, seed: int) -> str:
        """Evaluate the model with a removal order on a worker; return the state of the flow run."""
        spec = {
            "model": str(self._model),
            "task": "everyday_knowledge",
            "rows": {"first": 3},
            "levels": [0, 1],
            "explain": None,
            "strategy": {"name": "random", "seed": seed},
        }
        return self.run(
            f"prefect deployment run sweep/sweep --watch --param 'spec={json.dumps(spec)}'"
        )

    def runs(self) -> int:
        """The number of runs in the lake."""
        return len(lake_read.run_ids(self.folder / "lake"))

    def published(self) -> int:
        """The number of runs that the published snapshot shows."""
        code = (
            "import duckdb; print(duckdb.connect('lake/prunelake.duckdb', read_only=True)"
            ".execute('select count(distinct run_id) from runs').fetchone()[0])"
        )
        return int(self.run(f'python -c "{code}"'))

    def version(self) -> str:
        return self.run("prunelake --version").split()[-1]

    def flow_runs(self) -> set[str]:
        """The ids of the sweeps that the server knows."""
        query = "select r.id from flow_run r join flow f on f.id = r.flow_id where f.name = 'sweep'"
        return {*self.run(f'psql -At prefect -c "{query}"').split()}

    def _start(self, name: str) -> None:
        self.services.start(name)
        if name == SERVER:
            url = self.services.variables()["PREFECT_API_URL"]
            is_up = ["curl", "-sf", "-m", "5", f"{url}/health"]
            self.services.wait_for(
                lambda: subprocess.run(is_up, capture_output=True).returncode == 0, "the server"
            )


@pytest.fixture
def machine(tiny_folder: Path, tmp_path: Path) -> Iterator[Machine]:
    for program in ("rsync", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine: apt-get install {program}")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[-1]
    with running_postgres() as postgres:
        machine = Machine(tmp_path, postgres, tmp_path / built, tiny_folder)
        try:
            yield machine
        finally:
            for name in [*machine.services.units]:
                machine.services.stop(name)


def test_the_page_leads_through_an_upgrade_and_back(machine: Machine) -> None:
    backup = commands("Back up and restore")
    restore_at = backup.index("rsync -a backup/ lake/")
    upgrade = commands("Upgrade")
    stops = [at for at, line in enumerate(upgrade) if line.startswith("systemctl stop")]
    assert len(stops) == 2

    old = machine.folder / "opt/prunelake-OLD"
    machine.do("python3 -m venv /opt/prunelake-OLD")
    machine.install(old, OLD)
    machine.link.symlink_to(old)
    machine.do("systemctl start prunelake-server")
    machine.run("prefect work-pool create gpu --type process")
    machine.run("prefect work-pool create cpu --type process")
    machine.run("prefect --no-prompt deploy --all")
    machine.do("systemctl start prunelake-cpu prunelake-api prunelake-gpu@0")
    machine.evaluate(1)
    known = machine.flow_runs()

    machine.do(upgrade[0], *backup[:restore_at], *upgrade[1 : stops[1]])
    assert machine.version() == NEW
    assert machine.published() == 1
    machine.evaluate(2)
    assert machine.runs() == 2
    assert known < machine.flow_runs()

    machine.do(*upgrade[stops[1] :])
    assert machine.version() == OLD
    assert machine.flow_runs() == known
    assert machine.published() == 2  # the old version reads the run of the new version
    machine.evaluate(3)
    assert machine.runs() == 3

    machine.do(upgrade[0])
    shutil.rmtree(machine.folder / "lake")
    machine.do(*backup[restore_at:])
    assert machine.runs() == machine.published() == 1
    machine.run("prunelake doctor")
