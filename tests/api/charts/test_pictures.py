"""The pool of drawing processes: its pictures, a killed process, and the end of its parent."""

import asyncio
import subprocess
import sys

import psutil

from prunelake.api.charts.drawing.pictures import WARM_UP, DrawingPool, picture
from tests.support.limits import HANG_S

PARENT = """
from prunelake.api.charts.drawing.pictures import WARM_UP, DrawingPool, svg
if __name__ == "__main__":
    pool = DrawingPool(1)
    pool.submit(svg, WARM_UP).result()
    print("drawn", flush=True)
    input()
"""


def test_the_pool_draws_as_this_process_does_and_replaces_a_killed_process() -> None:
    pool = DrawingPool(processes=1)
    mine = picture(WARM_UP, "svg")
    before = set(psutil.Process().children(recursive=True))
    try:
        assert asyncio.run(pool.picture(WARM_UP, "svg")) == mine
        for process in set(psutil.Process().children(recursive=True)) - before:
            if "spawn_main" in " ".join(process.cmdline()):
                process.kill()
                process.wait(HANG_S)
        assert asyncio.run(pool.picture(WARM_UP, "svg")) == mine
    finally:
        pool.close()


def test_the_processes_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "drawn\n"
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
        parent.kill()
    _, alive = psutil.wait_procs(children, timeout=HANG_S)
    assert alive == []
