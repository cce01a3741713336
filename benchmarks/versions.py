"""Two versions of the code in turns: a former commit of this repository, and this one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CODE = Path(__file__).parents[1]

FORMER = "19aef12"
"""The last commit that built charts with altair."""


def checked_out(commit: str, folder: Path) -> Path:
    """The files of a commit of this repository."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(CODE), "archive", commit], check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def environment(code: Path) -> dict[str, str]:
    """The environment in which Python imports this version of the code."""
    return os.environ | {"PYTHONPATH": f"{code / 'lib'}:{code}", "OMP_NUM_THREADS": "1"}


def answer_of(code: Path, script: Path, text: str, *arguments: str) -> Any:
    """The last line of JSON that a script prints in a new process with this version of the code.

    `text` is written to the file `script`, because processes that it starts import it again.
    """
    script.write_text(text, encoding="utf-8")
    output = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment(code),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output.strip().splitlines()[-1])
