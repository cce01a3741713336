"""The process of a flow run: it reads its spec before torch is loaded, and ends silently."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

CODE = """
import atexit, os, sys

atexit.register(os.write, 2, b"leaked")  # exit functions run in reverse order: this runs last
import prunelake.flows.compare, prunelake.flows.sweep, prunelake.flows.sweeps

assert "torch" not in sys.modules
os.write(2, b"a log line")
"""


@pytest.mark.parametrize(
    ("environment", "stderr"),
    [({"PREFECT__FLOW_RUN_ID": str(uuid4())}, "a log line"), ({}, "a log lineleaked")],
)
def test_the_log_of_a_flow_run_has_no_notices_of_the_interpreter(
    environment: dict[str, str], stderr: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == stderr
