"""Commits in an object store: no reader sees a part of a run, and no late writer can harm one."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.commit import write_run
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.repair import repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.lake.storage import leases, s3
from prunelake.lake.storage.locks import WRITE_LOCK
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.interruptions import Interrupted
from tests.support.lake_rows import layer, small_analysis, small_run
from tests.support.limits import HANG_S
from tests.support.object_store import (
    KillBeforeWrite,
    LeaseClock,
    WriteCounter,
    before_every_request,
    new_lake,
    object_names,
)

pytestmark = pytest.mark.usefixtures("object_store")


REPAIRED = (4, 7)
"""The steps after which the lake is also repaired, which takes longest."""


@pytest.fixture
def remote() -> ObjectPath:
    return new_lake()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeaseClock:
    return LeaseClock(monkeypatch)


def run_of(importance: float) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """One run, as computed by a machine with its own rounding."""
    run, frames = small_run()
    rows = [layer(run["run_id"], 0, importance, 1), layer(run["run_id"], 1, 0.25, 0)]
    return run, frames | {"layers": pl.DataFrame(rows, schema=frames["layers"].schema)}


def stored_importance(lake: ObjectPath) -> float:
    importances = read.read_table(lake, "layers").sort("layer")["importance"]
    assert len(importances) == 2
    return float(importances[0])


def write_requests_of_a_commit() -> int:
    """The number of writing requests in the commit of a run."""
    steps = WriteCounter()
    with before_every_request(steps):
        assert write_run(new_lake(), *run_of(0.5))
    return steps.count


def test_one_of_two_simultaneous_writers_wins(remote: ObjectPath) -> None:
    values = [0.5, 0.625, 0.75]
    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(lambda value: write_run(remote, *run_of(value)), values))
    assert sorted(won) == [False, False, True]
    assert stored_importance(remote) == values[won.index(True)]
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}


def test_a_writer_that_lost_its_lock_harms_no_committed_run() -> None:
    """Before each request of a writer in turn, another writer takes over and commits the run."""
    for step in range(2, write_requests_of_a_commit() + 1, repeats(2, 1)):
        remote = new_lake()
        won: dict[str, bool] = {}

        def take_over(remote: ObjectPath = remote, won: dict[str, bool] = won) -> None:
            (remote / WRITE_LOCK).remove()
            won["other"] = write_run(remote, *run_of(0.75))

        with before_every_request(WriteCounter(step, take_over)), suppress(LakeError):
            won["late"] = write_run(remote, *run_of(0.5))
        # The first writer of the manifest wins; the other may learn only that its lock was lost.
        expected = 0.75 if won["other"] else 0.5
        assert stored_importance(remote) == expected
        assert not (won.get("late") and won["other"])
        assert {each.kind for each in verify_lake(remote)} <= {
            FindingKind.unanalysed,
            FindingKind.orphaned,
        }
        if step in REPAIRED:
            repair(remote, analyse)
            assert verify_lake(remote) == []
            assert stored_importance(remote) == expected


@pytest.mark.usefixtures("clock")
def test_a_writer_may_die_before_any_request() -> None:
    for step in range(1, write_requests_of_a_commit() + 1, repeats(2, 1)):
        remote = new_lake()
        with before_every_request(KillBeforeWrite(step)), pytest.raises(Interrupted):
            write_run(remote, *run_of(0.5))
        is_committed = read.run_ids(remote) != []
        if remote.is_dir():
            read.read_table(remote, "layers")
        assert write_run(remote, *run_of(0.75)) is not is_committed
        assert stored_importance(remote) == (0.5 if is_committed else 0.75)
        assert WRITE_LOCK not in object_names(remote)
        assert {each.kind for each in verify_lake(remote)} <= {
            FindingKind.unanalysed,
            FindingKind.orphaned,
        }
        if step in REPAIRED:
            repair(remote, analyse)
            assert verify_lake(remote) == []


KILLED = """
import os, signal, sys
from prunelake.lake.storage import leases, s3
from prunelake.lake.commit import write_run
from prunelake.lake.storage.objects import parse_object_path
from tests.support.lake_rows import small_run
leases.TIME_TO_LIVE = 1e6  # no renewal is among the requests that are counted
call_once, count = s3.call_once, 0
def ask_or_die(bucket, key, operation, *arguments, **named):
    global count
    count += operation == "put_object"
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return call_once(bucket, key, operation, *arguments, **named)
s3.call_once = ask_or_die
write_run(parse_object_path(sys.argv[1]), *small_run())
"""


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("put", [3, 7])  # among the data files; the manifest
def test_a_killed_writer_leaves_no_half_run(remote: ObjectPath, put: int) -> None:
    command = [sys.executable, "-c", KILLED, str(remote), str(put)]
    assert subprocess.run(command, timeout=HANG_S).returncode == -signal.SIGKILL
    assert WRITE_LOCK in object_names(remote)
    assert read.run_ids(remote) == []
    assert write_run(remote, *small_run())
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}
    assert WRITE_LOCK not in object_names(remote)


def test_an_analysis_that_dies_before_any_request_leaves_the_old_or_the_new_analysis(
    remote: ObjectPath,
) -> None:
    run, frames = small_run()
    write_run(remote, run, frames)
    row, rows = small_analysis(run["run_id"])
    commit.write_analysis(remote, row, rows)
    for step in range(1, 20, repeats(2, 1)):
        new_row = row | {"analysed_at": datetime(2026, 2, step, tzinfo=UTC)}
        new_rows = rows | {"metrics": rows["metrics"].with_columns(value=pl.lit(float(step)))}
        try:
            with before_every_request(KillBeforeWrite(step)):
                commit.write_analysis(remote, new_row, new_rows)
        except Interrupted:
            at = read.read_table(remote, "analyses")["analysed_at"].item()
            value = read.read_table(remote, "metrics")["value"].item()
            assert value is None or at == datetime(2026, 2, int(value), tzinfo=UTC)
            if step in REPAIRED:
                assert {each.kind for each in verify_lake(remote)} <= {FindingKind.orphaned}
            # Waiting for the lease of a dead holder would send requests that count as steps.
            (remote / WRITE_LOCK).remove()
        else:
            break
    assert step > 6
    assert read.read_table(remote, "metrics")["value"].item() == step
    repair(remote, analyse)
    assert verify_lake(remote) == []


def test_a_writer_that_was_suspended_during_a_compaction_commits_nothing(
    remote: ObjectPath, clock: LeaseClock
) -> None:
    """Its data files are removed by then: another process wrote the run, and it was merged."""

    def meanwhile() -> None:
        (remote / WRITE_LOCK).put(b'{"holder": "the process that took over", "beat": 1}')
        clock.advance(leases.TIME_TO_LIVE)
        (remote / WRITE_LOCK).remove()
        with pytest.MonkeyPatch.context() as another_process:
            another_process.setattr(leases, "_held_leases", set())
            assert write_run(remote, *run_of(0.75))
            compact(remote)

    # Before the last data file; the manifest comes after it.
    with (
        before_every_request(WriteCounter(6, meanwhile)),
        pytest.raises(LakeError, match="was not renewed"),
    ):
        write_run(remote, *run_of(0.5))
    assert stored_importance(remote) == 0.75
    assert {each.kind for each in verify_lake(remote)} <= {
        FindingKind.unanalysed,
        FindingKind.orphaned,
    }


def test_a_write_whose_response_was_lost_counts_once(
    remote: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_once = s3.call_once

    def twice(bucket: str, key: str, operation: str, *arguments: Any, **named: Any) -> Any:
        if operation == "put_object":
            call_once(bucket, key, operation, *arguments, **named)
        return call_once(bucket, key, operation, *arguments, **named)

    monkeypatch.setattr(s3, "call_once", twice)
    path = remote / "object"
    etag = path.create(b"one")
    assert etag is not None
    assert path.create(b"one") is None
    changed = path.replace(b"two", etag)
    assert changed is not None
    assert path.replace(b"three", etag) is None
    assert path.read_bytes() == b"two"
    assert not path.remove(etag)
    assert path.remove(changed)
    assert path.replace(b"four", changed) is None
    assert object_names(remote) == set()


def test_shards_are_kept_until_they_are_deleted(remote: ObjectPath) -> None:
    run, frames = small_run()
    partial_run = PartialRun(remote, run["run_id"])
    with partial_run.claim(lambda: pytest.fail("waited")):
        partial_run.write_shard(
            "a", {"predictions": frames["predictions"]}, ComputeCost(10, 1.0, "cpu")
        )
        assert partial_run.shard_cost("a") == ComputeCost(10, 1.0, "cpu")
        assert partial_run.shard_cost("b") is None
    assert partial_run.exists()
    assert_frame_equal(
        partial_run.read_table(RUN_TABLES["predictions"], ["a"]),
        frames["predictions"].sort("level"),
    )
    (path,) = (partial_run.folder / "predictions").glob("*")
    assert isinstance(path, ObjectPath)
    path.put(b"damaged")
    with pytest.raises(LakeError, match="is missing or has changed"):
        partial_run.shard_cost("a")
    with partial_run.claim(lambda: pytest.fail("waited")):
        partial_run.delete()
    assert not partial_run.exists()
    assert object_names(remote) == set()
