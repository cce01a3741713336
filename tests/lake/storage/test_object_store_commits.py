"""Commits in an object store: no reader sees a part of a run, and no late writer can harm one."""

import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import LakeError
from prunelake.lake import read
from prunelake.lake.commit import write_run
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.lake.storage import stores
from prunelake.lake.storage.objects import ObjectPath
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.lakes.interruptions import Interrupted
from tests.support.limits import HANG_S
from tests.support.object_stores.object_store import (
    KillBeforeWrite,
    WriteCounter,
    before_every_request,
    new_lake,
    object_names,
)
from tests.support.runs.lake_rows import layer, small_run

pytestmark = pytest.mark.usefixtures("object_store")


@pytest.fixture
def remote() -> ObjectPath:
    return new_lake()


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
    # The data files of the others belong to nobody.
    assert {each.kind for each in verify_lake(remote)} <= {
        FindingKind.unanalysed,
        FindingKind.orphaned,
    }


def test_a_writer_may_die_before_any_request() -> None:
    for step in range(1, write_requests_of_a_commit() + 1, repeats(3, 1)):
        remote = new_lake()
        with before_every_request(KillBeforeWrite(step)), pytest.raises(Interrupted):
            write_run(remote, *run_of(0.5))
        assert read.run_ids(remote) == []
        assert write_run(remote, *run_of(0.75))
        assert stored_importance(remote) == 0.75
        assert {each.kind for each in verify_lake(remote)} <= {
            FindingKind.unanalysed,
            FindingKind.orphaned,
        }


KILLED = """
import os, signal, sys
from prunelake.lake.commit import write_run
from prunelake.lake.storage import stores
from prunelake.lake.storage.objects import parse_object_path
from tests.support.runs.lake_rows import small_run
request = stores.request
def send_or_die(scheme, bucket, key, operation, **options):
    if operation == "put" and key.endswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return request(scheme, bucket, key, operation, **options)
stores.request = send_or_die
write_run(parse_object_path(sys.argv[1]), *small_run())
"""


@pytest.mark.parametrize("last", [".json", pytest.param(".parquet", marks=pytest.mark.endurance)])
def test_a_killed_writer_leaves_no_half_run(remote: ObjectPath, last: str) -> None:
    command = [sys.executable, "-c", KILLED, str(remote), last]
    assert subprocess.run(command, timeout=HANG_S).returncode == -signal.SIGKILL
    assert read.run_ids(remote) == []
    assert write_run(remote, *small_run())
    assert {finding.kind for finding in verify_lake(remote)} == {FindingKind.unanalysed}


def test_a_write_whose_response_was_lost_counts_once(
    remote: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = stores.request

    def twice(*arguments: Any, **options: Any) -> Any:
        if arguments[3] == "put":
            request(*arguments, **options)
        return request(*arguments, **options)

    monkeypatch.setattr(stores, "request", twice)
    path = remote / "object"
    tag = path.create(b"one")
    assert tag is not None
    assert path.create(b"another") is None
    changed = path.replace(b"two", tag)
    assert changed is not None
    assert path.replace(b"three", tag) is None
    assert path.read_bytes() == b"two"
    assert not path.remove(tag)
    assert path.remove(changed)
    assert path.replace(b"four", changed) is None
    assert object_names(remote) == set()


@pytest.mark.parametrize("is_executed", [False, True])
def test_two_writers_of_one_run_to_a_store_that_fails_often(
    remote: ObjectPath, monkeypatch: pytest.MonkeyPatch, is_executed: bool
) -> None:
    """One request in twenty fails, or is executed and its response is lost."""
    request, chance = stores.request, random.Random(1)

    def fail_often(*arguments: Any, **options: Any) -> Any:
        fails = chance.random() < 0.05
        if not fails or is_executed:
            response = request(*arguments, **options)
        if fails:
            raise LakeError("no response") from ConnectionError()
        return response

    monkeypatch.setattr(stores, "request", fail_often)

    def write(importance: float) -> bool:
        while True:
            try:
                return write_run(remote, *run_of(importance))
            except LakeError as error:
                if not isinstance(error.__cause__, ConnectionError):
                    raise
                # A sweep tries again.

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(write, (0.5, 0.75)))
    monkeypatch.undo()
    assert won.count(True) <= 1
    winner = stored_importance(remote)
    assert not any(
        is_won for value, is_won in zip((0.5, 0.75), won, strict=True) if value != winner
    )
    assert {each.kind for each in verify_lake(remote)} <= {
        FindingKind.unanalysed,
        FindingKind.orphaned,
    }


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
