"""The CI workflow in automations/: its steps run as a runner would run them."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from prunelake.cli.app import app
from tests.support.paths import ROOT

WORKFLOW = yaml.safe_load((ROOT / "automations/github_gate.yaml").read_text(encoding="utf-8"))
STEPS: dict[str, Any] = {
    step["name"]: step for step in WORKFLOW["jobs"]["gate"]["steps"] if "name" in step
}


def run_step(name: str, folder: Path, **environment: str) -> int:
    """Run the script of a step with `bash -e`, as GitHub does; its exit code."""
    return subprocess.run(
        ["bash", "-e", "-c", STEPS[name]["run"]],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "GITHUB_OUTPUT": str(folder / "output"),
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            **environment,
        },
    ).returncode


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_job_ends_with_the_code_of_the_gate_after_its_reports(
    tmp_path: Path, code: int
) -> None:
    command = tmp_path / "prunelake"
    command.write_text(
        f"#!{sys.executable}\nopen('gate.md', 'w').write('## result')\nexit({code})\n"
    )
    command.chmod(0o755)
    assert run_step("Check the gate", tmp_path) == 0  # so that the later steps post the result
    assert (tmp_path / "summary").read_text() == "## result"
    assert (tmp_path / "output").read_text() == f"code={code}\n"
    assert run_step("Pass or fail", tmp_path, CODE=str(code)) == code


def test_the_workflow_installs_extras_that_exist() -> None:
    extras = re.findall(r"prunelake\[(.*)\]", STEPS["Install PruneLake"]["run"])[0].split(",")
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {*extras} <= known["optional-dependencies"].keys()


def test_the_command_of_the_workflow_has_these_options() -> None:
    group = typer.main.get_command(app)
    options = {name for param in group.commands["gate"].params for name in param.opts}  # type: ignore[attr-defined]  # a group
    words = STEPS["Check the gate"]["run"].split()
    assert {word for word in words if word.startswith("--")} <= options
    assert STEPS["Pass or fail"]["env"]["CODE"] == "${{ steps.gate.outputs.code }}"
    assert STEPS["Check the gate"]["id"] == "gate"
