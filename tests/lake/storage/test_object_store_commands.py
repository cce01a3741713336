"""The commands on a lake in an object store, each in a process, as users run them."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from prunelake.analysis.analyse import analyse
from prunelake.api.app import create_app
from prunelake.api.queries import operations
from prunelake.api.queries.snapshots import snapshot_mirror as mirroring
from prunelake.api.queries.snapshots.snapshot import LatestSnapshot
from prunelake.api.queries.snapshots.snapshot_mirror import SnapshotMirror
from prunelake.api.settings import ApiSettings
from prunelake.cli.app import app
from prunelake.errors import LakeError, MissingExtra, NoSnapshot
from prunelake.lake import commit, read
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.lake.storage import stores
from prunelake.lake.storage.objects import ObjectPath
from prunelake.settings import Settings
from prunelake.spec import Explanation, Rows, Strategy, SweepSpec
from prunelake.sweeps.run import run_sweep
from prunelake.watch.status import record_status
from tests.cli.test_serve import PRUNELAKE, serving
from tests.support.limits import HANG_S
from tests.support.object_stores.object_store import (
    before_every_request,
    environment,
    new_lake,
    object_names,
)
from tests.support.runs.lake_rows import small_run


@pytest.fixture
def remote(object_store: str) -> ObjectPath:  # noqa: ARG001  # it must run
    return new_lake()


def prunelake(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRUNELAKE, *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )


def test_a_sweep_writes_its_run_and_leaves_no_other_objects(
    remote: ObjectPath, tiny_folder: Path, tmp_path: Path
) -> None:
    spec = SweepSpec(
        model=str(tiny_folder),
        task="opinions",
        rows=Rows(first=5),
        strategy=Strategy(name="random", seed=1),
        levels=(0, 1),
        explain=Explanation(rows=1, methods=("input_x_gradient",)),
    )
    run_sweep(spec, Settings(lake=remote, cache=tmp_path / "cache", device="cpu"))
    assert verify_lake(remote) == []
    assert read.read_table(remote, "predictions").height == 10
    assert read.read_table(remote, "deletions").height > 0
    assert not {name for name in object_names(remote) if name.startswith(".")}


def test_the_spec_of_a_sweep_may_be_an_object(remote: ObjectPath) -> None:
    # `doctor --quarantine` leaves specs in the lake.
    (remote / "spec.yaml").put(b"task: opinions\nrowz: 3\n")
    answer = CliRunner().invoke(app, ["sweep", str(remote / "spec.yaml")])
    assert "spec.yaml, line 2, rowz: no such field" in str(answer.exception)


@pytest.mark.endurance  # tests/api/http/test_cache.py shows new snapshots of a folder
def test_the_server_shows_runs_that_are_published_later(remote: ObjectPath, tmp_path: Path) -> None:
    run, frames = small_run("one")
    commit.write_run(remote, run, frames)
    cache = tmp_path / "cache"
    with serving(remote, PRUNELAKE_CACHE=str(cache)) as (address, printed):
        assert f"PruneLake serves {remote}" in printed
        assert httpx.get(f"{address}/health", timeout=HANG_S).json()["run_count"] == 1
        query = {"query": "select count(*) as n from runs"}
        actual = httpx.post(f"{address}/sql", json=query, timeout=HANG_S)
        assert actual.status_code == 200, actual.text
        assert commit.write_run(remote, *small_run("two"))
        publish(remote, analyse)
        until = time.monotonic() + HANG_S
        while httpx.get(f"{address}/health", timeout=HANG_S).json()["run_count"] == 1:
            assert time.monotonic() < until
            time.sleep(0.5)
    assert [path.name for path in cache.glob("snapshots/*/*")] == [SNAPSHOT_FILE]


def test_the_server_answers_while_the_store_is_unreachable(
    remote: ObjectPath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copy = SnapshotMirror(remote, tmp_path)
    with pytest.raises(NoSnapshot, match="prunelake publish"):
        LatestSnapshot(copy.folder, mirror=copy).current()
    assert commit.write_run(remote, *small_run("one"))
    publish(remote, analyse)
    snapshots = LatestSnapshot(copy.folder, mirror=copy)
    assert snapshots.current().run_count == 1
    requests = 0

    def fail(_: str, __: dict[str, Any]) -> None:
        nonlocal requests
        requests += 1
        raise LakeError("the store is away")

    monkeypatch.setattr(mirroring, "POLL_SECONDS", 0.01)

    async def follow() -> None:
        task = asyncio.create_task(copy.poll())
        while requests < 3:
            await asyncio.sleep(0.01)
            assert snapshots.current().run_count == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with before_every_request(fail):
        for _ in range(3):
            assert snapshots.current().run_count == 1
        assert requests == 0
        asyncio.run(follow())
    assert [record.message for record in caplog.records].count(
        f"the store is away; still serving the copy in {copy.folder}"
    ) == 1


def test_an_app_of_an_object_store_needs_no_lake_here(remote: ObjectPath, tmp_path: Path) -> None:
    assert create_app(remote, cache=tmp_path).state.snapshots.path.parent.is_dir()


def test_the_metrics_of_operations_come_from_the_store(
    remote: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_status(remote, "watch", 2)
    shard = PartialRun(remote, "0123456789abcdef")
    shard.write_shard("000000-000003", {}, ComputeCost(1.0, 1.0, "cpu"))
    app = create_app(remote, ApiSettings(sql=False), tmp_path)
    client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000))
    requests: list[str] = []

    def count(operation: str, _: dict[str, Any]) -> None:
        if operation.startswith("list"):  # no request about the snapshot
            requests.append(operation)

    with before_every_request(count):
        told = client.get("/metrics").text
        first = len(requests)
        client.get("/metrics")
    for line in ("watch_round_problems{} 2", "unfinished_runs{} 1", "unfinished_shards{} 1"):
        assert f"prunelake_{line}" in told
    assert "prunelake_evaluations_in_flight{} 0" in told
    assert 0 < first == len(requests)  # the second answer asks the store nothing

    def fail(_: str, __: dict[str, Any]) -> None:
        raise LakeError("the store is away")

    monkeypatch.setattr(operations, "STORE_SECONDS", 0.0)
    with before_every_request(fail):
        answer = client.get("/metrics")
    assert answer.status_code == 200
    assert "prunelake_unfinished_runs" not in answer.text
    assert "prunelake_http_request" in answer.text


def error_line(*arguments: str, **variables: str) -> str:
    done = prunelake(*arguments, **variables)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_refusal_of_the_store_is_one_clear_line(object_store: str) -> None:
    message = error_line("views", "--lake", "s3://nowhere/lake")
    assert f"{object_store} has no bucket 'nowhere'" in message
    assert "AWS_ENDPOINT_URL" in message
    dead = environment("http://127.0.0.1:9")
    message = error_line("doctor", "--lake", "s3://lakes/lake", **dead)
    assert "http://127.0.0.1:9 does not answer" in message
    message = error_line("views", "--lake", "ftp://lakes/lake")
    assert "give a folder, or s3://BUCKET/PREFIX" in message


@pytest.mark.usefixtures("object_store")
def test_missing_keys_and_a_missing_package_are_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        stores.store_for_process.cache_clear()
        with pytest.raises(LakeError, match=r"no keys for http://127.*AWS_ACCESS_KEY_ID"):
            views.query(new_lake(), "select 1")
        patch.setenv("AWS_PROFILE", "team")
        stores.store_for_process.cache_clear()
        patch.setitem(sys.modules, "boto3", None)
        with pytest.raises(LakeError, match=r"profile 'team' needs boto3.*pip install boto3"):
            views.query(new_lake(), "select 1")
    keys = tmp_path / "credentials"
    keys.write_text("[team]\naws_access_key_id = a\naws_secret_access_key = b\n")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        patch.setenv("AWS_PROFILE", "team")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
        stores.store_for_process.cache_clear()
        assert commit.write_run(new_lake(), *small_run())
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "obstore", None)
        patch.delitem(sys.modules, "prunelake.lake.storage.stores")
        patch.delattr("prunelake.lake.storage.stores")
        with pytest.raises(MissingExtra, match=r"pip install 'prunelake\[cloud\]'"):
            commit.write_run(new_lake(), *small_run())
    stores.store_for_process.cache_clear()
