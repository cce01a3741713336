"""The wheel: one top-level package, which folders named `api` and `flows` do not disturb."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / built.stdout.split()[-1]


def test_a_wheel_has_one_package_with_all_its_files(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.partition("/")[0] for name in names}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"prunelake"}
    for link in ("api", "flows", "sql"):
        tracked = subprocess.run(
            ["git", "ls-files", link], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
        assert {f"prunelake/{name}" for name in tracked} <= {*names}
    deployments = zipfile.ZipFile(wheel).read("prunelake/flows/prefect.yaml")
    assert deployments == (ROOT / "prefect.yaml").read_bytes()


def test_folders_named_api_and_flows_cause_no_conflict(wheel: Path, tmp_path: Path) -> None:
    for name in ("api", "flows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('of the notebook')")
    code = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import prunelake.public.chart, prunelake.api.report.document\n"
        "from prunelake.lake.sql.view_files import view_statements\n"
        "assert prunelake.__file__.startswith(sys.argv[1] + '/'), prunelake.__file__\n"
        "print(len(view_statements()))"
    )
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", code.replace("append(", "insert(0, "), str(unpacked)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert int(found.stdout or 0) > 40, found.stderr
