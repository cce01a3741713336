"""Commits in an object store: nobody sees a part of a run, and nobody late can harm one."""

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
from prunelake.lake import attempt_log, commit, leases, read, s3, storage
from prunelake.lake.attempt_log import Attempt
from prunelake.lake.commit import write_run
from prunelake.lake.compact import compact
from prunelake.lake.findings import FindingKind
from prunelake.lake.locks import WRITE_LOCK, locked
from prunelake.lake.objects import ObjectPath
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.lake.repair import repair
from prunelake.lake.verify import verify_lake
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.interruptions import Interrupted
from tests.support.lake_rows import layer, small_analysis, small_run
from tests.support.object_store import (
    KillBeforeWrite,
    LeaseClock,
    WriteCounter,
    before_every_request,
    new_lake,
    object_names,
)

pytestmark = pytest.mark.usefixtures("object_store", "few_replicates")

REPAIRED = (4, 7)
"""The steps after which the lake is repaired, too: it takes longest."""


@pytest.fixture
def remote() -> ObjectPath:
    return new_lake()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeaseClock:
    return LeaseClock(monkeypatch)


def run_of(importance: float) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """The one run, as a writer has computed it whose machine rounds in its own way."""
    run, frames = small_run()
    rows = [layer(run["run_id"], 0, importance, 1), layer(run["run_id"], 1, 0.25, 0)]
    return run, frames | {"layers": pl.DataFrame(rows, schema=frames["layers"].schema)}


def importance_in(place: ObjectPath) -> float:
    found = read.read_table(place, "layers").sort("layer")["importance"]
    assert len(found) == 2
    return float(found[0])


def requests_of_a_commit() -> int:
    """How many requests change something in the commit of a run."""
    steps = WriteCounter()
    with before_every_request(steps):
        assert write_run(new_lake(), *run_of(0.5))
    return steps.count


def test_of_two_writers_at_once_one_wins(remote: ObjectPath) -> None:
    values = [0.5, 0.625, 0.75]
    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(lambda value: write_run(remote, *run_of(value)), values))
    assert sorted(won) == [False, False, True]
    assert importance_in(remote) == values[won.index(True)]
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}


def test_a_writer_that_lost_its_lock_harms_no_committed_run() -> None:
    """Before each of its requests in turn, another one takes the lock over and commits the run."""
    for step in range(2, requests_of_a_commit() + 1, repeats(2, 1)):
        remote = new_lake()
        won: dict[str, bool] = {}

        def take_over(remote: ObjectPath = remote, won: dict[str, bool] = won) -> None:
            (remote / WRITE_LOCK).remove()
            won["other"] = write_run(remote, *run_of(0.75))

        with before_every_request(WriteCounter(step, take_over)), suppress(LakeError):
            won["late"] = write_run(remote, *run_of(0.5))
        # Who puts the head first has won; the late one may only learn that its lock was lost.
        expected = 0.75 if won["other"] else 0.5
        assert importance_in(remote) == expected
        assert not (won.get("late") and won["other"])
        assert {each.kind for each in verify_lake(remote)} <= {
            FindingKind.unanalysed,
            FindingKind.orphaned,
        }
        if step in REPAIRED:
            repair(remote, analyse)
            assert verify_lake(remote) == []
            assert importance_in(remote) == expected


@pytest.mark.usefixtures("clock")
def test_a_writer_may_die_before_any_request() -> None:
    for step in range(1, requests_of_a_commit() + 1, repeats(2, 1)):
        remote = new_lake()
        with before_every_request(KillBeforeWrite(step)), pytest.raises(Interrupted):
            write_run(remote, *run_of(0.5))
        is_committed = read.run_ids(remote) != []
        if remote.is_dir():
            read.read_table(remote, "layers")
        assert write_run(remote, *run_of(0.75)) is not is_committed
        assert importance_in(remote) == (0.5 if is_committed else 0.75)
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
from prunelake.lake import leases, s3
from prunelake.lake.commit import write_run
from prunelake.lake.objects import parse_object_path
from tests.support.lake_rows import small_run
leases.TIME_TO_LIVE = 1e6  # no renewal is among the requests that are counted
asked, count = s3.call_once, 0
def told(bucket, key, operation, *arguments, **named):
    global count
    count += operation == "put_object"
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return asked(bucket, key, operation, *arguments, **named)
s3.call_once = told
write_run(parse_object_path(sys.argv[1]), *small_run())
"""


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("put", [3, 7])  # among the data; the head
def test_a_killed_writer_leaves_no_half_run(remote: ObjectPath, put: int) -> None:
    command = [sys.executable, "-c", KILLED, str(remote), str(put)]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    assert WRITE_LOCK in object_names(remote)
    assert read.run_ids(remote) == []
    assert write_run(remote, *small_run())
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}
    assert WRITE_LOCK not in object_names(remote)


def test_an_analysis_that_dies_before_any_request_leaves_the_old_one_or_the_new(
    remote: ObjectPath,
) -> None:
    run, frames = small_run()
    write_run(remote, run, frames)
    row, rows = small_analysis(run["run_id"])
    commit.write_analysis(remote, row, rows)
    for step in range(1, 20, repeats(2, 1)):
        told = row | {"analysed_at": datetime(2026, 2, step, tzinfo=UTC)}
        told_rows = rows | {"metrics": rows["metrics"].with_columns(value=pl.lit(float(step)))}
        try:
            with before_every_request(KillBeforeWrite(step)):
                commit.write_analysis(remote, told, told_rows)
        except Interrupted:
            at = read.read_table(remote, "analyses")["analysed_at"].item()
            value = read.read_table(remote, "metrics")["value"].item()
            assert value is None or at == datetime(2026, 2, int(value), tzinfo=UTC)
            if step in REPAIRED:
                assert {each.kind for each in verify_lake(remote)} <= {FindingKind.orphaned}
            # Who waits for a dead holder asks as often as there is time, and each time counts.
            (remote / WRITE_LOCK).remove()
        else:
            break
    assert step > 6
    assert read.read_table(remote, "metrics")["value"].item() == step
    repair(remote, analyse)
    assert verify_lake(remote) == []


def test_a_living_holder_is_waited_for(
    remote: ObjectPath, clock: LeaseClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    beats = 0

    def renew_or_release(_: float) -> None:
        """What the holder, another process, does while this one waits."""
        nonlocal beats
        clock.advance(leases.TIME_TO_LIVE / 3)
        beats += 1
        if clock.seconds < 3 * leases.TIME_TO_LIVE:
            (remote / WRITE_LOCK).put(f'{{"holder": "another", "beat": {beats}}}'.encode())
        elif "released" not in order:
            (remote / WRITE_LOCK).remove()
            order.append("released")

    monkeypatch.setattr(leases, "_sleep", renew_or_release)
    (remote / WRITE_LOCK).put(b'{"holder": "another", "beat": 0}')
    with (
        pytest.raises(LakeError, match="is being written by another process"),
        locked(remote, wait=False),
    ):
        pass
    with locked(remote, on_wait=lambda: order.append("waiting")):
        order.append("locked")
    assert order == ["waiting", "released", "locked"]
    assert object_names(remote) == set()


def test_a_dead_holder_is_not_waited_for(remote: ObjectPath, clock: LeaseClock) -> None:
    (remote / WRITE_LOCK).put(b'{"holder": "somebody dead", "beat": 1}')
    with locked(remote, wait=False):
        assert clock.seconds > leases.TIME_TO_LIVE
    assert object_names(remote) == set()


@pytest.mark.usefixtures("clock")
def test_a_holder_renews_its_lease(remote: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TIME_TO_LIVE", 0.06)
    seen: set[bytes] = set()
    with locked(remote):
        while len(seen) < 3:
            seen.add((remote / WRITE_LOCK).read_bytes())
    assert object_names(remote) == set()


def test_who_has_lost_a_lease_deletes_nothing_and_says_so(
    remote: ObjectPath, clock: LeaseClock
) -> None:
    kept = remote / "layers" / "a.parquet"
    kept.put(b"rows")
    other = new_lake() / "b.parquet"
    other.put(b"of another lake")

    def work() -> None:
        with locked(remote):
            (remote / WRITE_LOCK).put(b'{"holder": "who took it over", "beat": 1}')
            clock.advance(leases.TIME_TO_LIVE)
            with pytest.raises(LakeError, match="was not renewed"):
                storage.delete(kept)
            storage.delete(other)

    with pytest.raises(LakeError, match="another process may write now"):
        work()
    assert not other.is_file()
    assert kept.is_file()
    assert b"who took it over" in (remote / WRITE_LOCK).read_bytes()


def test_a_writer_that_slept_through_a_compaction_commits_nothing(
    remote: ObjectPath, clock: LeaseClock
) -> None:
    """What it has put is gone by then, as the run of another one was merged."""

    def meanwhile() -> None:
        (remote / WRITE_LOCK).put(b'{"holder": "who took it over", "beat": 1}')
        clock.advance(leases.TIME_TO_LIVE)
        (remote / WRITE_LOCK).remove()
        with pytest.MonkeyPatch.context() as another_process:
            another_process.setattr(leases, "_held_leases", set())
            assert write_run(remote, *run_of(0.75))
            compact(remote)

    # Before the last of its data; the head comes after that.
    with (
        before_every_request(WriteCounter(6, meanwhile)),
        pytest.raises(LakeError, match="was not renewed"),
    ):
        write_run(remote, *run_of(0.5))
    assert importance_in(remote) == 0.75
    assert {each.kind for each in verify_lake(remote)} <= {
        FindingKind.unanalysed,
        FindingKind.orphaned,
    }


def test_a_put_whose_answer_was_lost_is_known_again(
    remote: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = s3.call_once

    def twice(bucket: str, key: str, operation: str, *arguments: Any, **named: Any) -> Any:
        if operation == "put_object":
            asked(bucket, key, operation, *arguments, **named)
        return asked(bucket, key, operation, *arguments, **named)

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


def attempt(**changes: Any) -> Attempt:
    known: dict[str, Any] = {"key": "0" * 16, "watchlist": "w", "entry": "e", "model": "m"}
    known |= {"revision": "r", "task": "t", "strategy": "cosine", "state": "running", "number": 1}
    known |= {"nonce": "n", "started_at": datetime.now(UTC)}
    return Attempt.model_validate(known | changes)


def test_of_two_watchers_one_starts(remote: ObjectPath) -> None:
    """Each reads the ledger before the other one writes."""
    first, second, third = attempt(nonce="1"), attempt(nonce="2"), attempt(nonce="3")
    for old, mine, theirs in ((None, first, second), (second, first, third), (third, None, second)):

        def before_it(old: Attempt | None = old, theirs: Attempt = theirs) -> None:
            assert attempt_log.compare_and_swap(remote, old, theirs)

        with before_every_request(WriteCounter(1, before_it)):
            assert not attempt_log.compare_and_swap(remote, old, mine)
        assert attempt_log.read_attempts(remote) == {theirs.key: theirs}
    before = attempt_log.last_heartbeat(remote, second)
    while attempt_log.last_heartbeat(remote, second) <= before:  # the store tells whole seconds
        attempt_log.send_heartbeat(remote, second)
    attempt_log.send_heartbeat(remote, third)  # of another one, by now
    assert attempt_log.read_attempts(remote) == {second.key: second}
    assert attempt_log.compare_and_swap(remote, second, None)
    assert attempt_log.read_attempts(remote) == {}
    assert object_names(remote) == set()


def test_shards_are_kept_and_go_with_their_run(remote: ObjectPath) -> None:
    run, frames = small_run()
    unfinished = PartialRun(remote, run["run_id"])
    with unfinished.claim(lambda: pytest.fail("waited")):
        unfinished.write_shard(
            "a", {"predictions": frames["predictions"]}, ComputeCost(10, 1.0, "cpu")
        )
        assert unfinished.shard_cost("a") == ComputeCost(10, 1.0, "cpu")
        assert unfinished.shard_cost("b") is None
    assert unfinished.exists()
    assert_frame_equal(
        unfinished.read_table(RUN_TABLES["predictions"], ["a"]), frames["predictions"].sort("level")
    )
    (path,) = (unfinished.folder / "predictions").glob("*")
    assert isinstance(path, ObjectPath)
    path.put(b"damaged")
    with pytest.raises(LakeError, match="is not the file that was written"):
        unfinished.shard_cost("a")
    with unfinished.claim(lambda: pytest.fail("waited")):
        unfinished.delete()
    assert not unfinished.exists()
    assert object_names(remote) == set()
