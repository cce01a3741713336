"""A flow run ends when its worker is killed."""

import subprocess
import sys

import psutil
import pytest

from tests.support.limits import HANG_S

WORKER = """
import subprocess, sys
flow_run = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
flow_run.stdout.readline()
print(flow_run.pid, flush=True)
flow_run.wait()
"""
WATCH = """
from prunelake.flows import worker_loss
worker_loss.GRACE_S = 0.1
worker_loss.end_with_worker()
"""
STARTED = 'print("started", flush=True)\n'
WAIT = "import time; time.sleep(1000)\n"
STUCK = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
ALONE = "import os, time\nworker = os.getppid()\n{}while os.getppid() == worker: time.sleep(0.1)\n"


@pytest.mark.parametrize(
    "flow_run",
    [
        WATCH + STARTED + WAIT,
        STUCK + WATCH + STARTED + WAIT,
        ALONE.format(STARTED) + WATCH + WAIT,
    ],
    ids=["computes", "ignores SIGTERM", "starts when the worker is dead"],
)
def test_no_flow_run_outlives_its_worker(flow_run: str) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, flow_run], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    process = psutil.Process(int(worker.stdout.readline()))
    assert process.is_running()
    worker.kill()
    worker.communicate()
    process.wait(HANG_S)
