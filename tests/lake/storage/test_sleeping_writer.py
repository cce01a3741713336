"""A writer that is stopped among its data files, and garbage collection meanwhile."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from prunelake.lake import read
from prunelake.lake.commit import write_run
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from tests.support.limits import HANG_S
from tests.support.object_stores.simulated_store import (
    SimulatedStore,
    simulated_lake,
    simulated_processes,
)
from tests.support.runs.lake_rows import identity_of, small_run

SLEEPING_WRITER = """
import os, pathlib, signal, sys
from prunelake.lake.commit import write_run
from prunelake.lake.files import parquet
from tests.support.runs.lake_rows import small_run
write = parquet.write
def sleep_before_the_last(lake, table, *arguments):
    if table.name == "runs":
        parquet.write = write
        os.kill(os.getpid(), signal.SIGSTOP)
    return write(lake, table, *arguments)
parquet.write = sleep_before_the_last
run, frames = small_run("slept")
print(write_run(pathlib.Path(sys.argv[1]), run | {"duration_s": 7.0}, frames))
"""


@pytest.mark.parametrize("is_overtaken", [False, True])
def test_a_writer_that_slept_through_garbage_collection_commits_all_or_nothing(
    tmp_path: Path, is_overtaken: bool
) -> None:
    assert write_run(tmp_path, *small_run("other"))
    command = [sys.executable, "-c", SLEEPING_WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            _, status = os.waitpid(writer.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            if is_overtaken:
                assert write_run(tmp_path, *small_run("slept"))
                compact(tmp_path)
            assert collect_garbage(tmp_path, timedelta(0)) > 0
            writer.send_signal(signal.SIGCONT)
            printed, _ = writer.communicate(timeout=HANG_S)
        finally:
            writer.kill()
    assert printed == f"{not is_overtaken}\n"
    rows = read.read_table(tmp_path, "runs", [identity_of("slept")[1]])
    assert rows["duration_s"].to_list() == [1.5 if is_overtaken else 7.0]
    for table in ("layers", "predictions"):
        assert read.read_table(tmp_path, table).height == 4
    collect_garbage(tmp_path, timedelta(0))
    assert {finding.kind.name for finding in verify_lake(tmp_path)} == {"unanalysed"}


def test_garbage_collection_goes_by_the_clock_of_the_store() -> None:
    """The clock of this machine is many years ahead of the store's."""
    store, lake = SimulatedStore(), simulated_lake()
    with simulated_processes(store, {}):
        assert write_run(lake, *small_run())
        (lake / "layers" / "dead.1.0123456789abcdef.parquet").put(b"of a writer that may be alive")
        store.seconds += 3600
        assert collect_garbage(lake, timedelta(hours=2)) == 0
        store.seconds += 3600
        assert collect_garbage(lake, timedelta(hours=2)) == 1
        assert read.run_ids(lake) == [identity_of("run")[1]]
