"""The process of a flow run: it loads torch after all refusals, and ends silently."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

CODE = """
import atexit, os, sys

atexit.register(os.write, 2, b"leaked")  # exit functions run in reverse order: this runs last
import prunelake.flows.compare, prunelake.flows.sweep, prunelake.flows.sweeps

assert not {"torch", "polars", "duckdb"} & sys.modules.keys()
from prunelake.errors import PrefectUnavailable
from prunelake.settings import Settings
from prunelake.spec import SweepSpec

spec, settings = SweepSpec(task="opinions"), Settings(task_runner="ray")
for flow, work in ((prunelake.flows.sweep.sweep, spec), (prunelake.flows.sweeps.sweeps, [spec])):
    try:
        flow(work, settings)
    except PrefectUnavailable as error:
        assert "set PREFECT_API_URL" in str(error)
    else:
        raise AssertionError("a sweep on Ray ran without a server")
assert not {"torch", "ray"} & sys.modules.keys()
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
        env={k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == stderr
