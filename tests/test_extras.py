"""Without an extra, commands that read a lake work, and other commands name the extra."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from prunelake.errors import MissingExtra
from prunelake.extras import EXTRAS, naming_extras
from tests.support.paths import ROOT
from tests.support.plain_install import plain_python
from tests.support.runs.example_runs import judged_run

COMMANDS = """
from prunelake.cli.app import app
from prunelake.errors import MissingExtra
from prunelake.extras import naming_extras

for line in sys.argv[1:]:
    sys.argv[1:] = line.split()
    try:
        with naming_extras():
            app()
    except (SystemExit, MissingExtra) as ended:
        print(f"{line}: {ended}")
"""
"""Runs command lines."""


@pytest.mark.parametrize(
    ("package", "extra"), [(name, extra) for extra, names in EXTRAS.items() for name in names]
)
def test_a_missing_package_names_its_extra(package: str, extra: str) -> None:
    with (
        pytest.raises(MissingExtra, match=rf"needs {package}.*prunelake\[{extra}\]"),
        naming_extras(),
    ):
        raise ModuleNotFoundError(f"No module named {package}.part", name=f"{package}.part")


def test_another_missing_module_is_a_different_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="own"), naming_extras():
        raise ModuleNotFoundError("No module named own", name="own")


def test_the_extras_match_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*EXTRAS} == {*project["optional-dependencies"]} - {*("dev", "docs", "bench")}


def test_a_plain_installation_reads_and_names_missing_extras(tmp_path: Path) -> None:
    judged_run(tmp_path / "lake", "judged")
    lines = [
        "publish",
        "sweep --task opinions",
        "sweep --task arc_easy",
        "profile",
        "export MODEL --level 1 --out folder",
    ]
    done = subprocess.run(
        [sys.executable, "-c", plain_python() + COMMANDS, *lines],
        cwd=tmp_path,
        env=os.environ | {"PRUNELAKE_LAKE": "lake", "PRUNELAKE_CACHE": "cache"},
        capture_output=True,
        text=True,
    )
    ended = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert ended.get("publish") == "0", done.stderr
    for line in lines[1:]:
        assert "pip install 'prunelake[models]'" in ended.get(line, ""), done.stderr
