"""Sweeps on a real Ray cluster of two nodes on this machine.

Each worker of the cluster imports torch, which takes seconds. tests/flows/test_ray_shards.py has
the errors of shards without a cluster.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from polars.testing import assert_frame_equal

from prunelake.errors import RayUnavailable, UnsupportedModel
from prunelake.flows.sweep import sweep
from prunelake.lake import read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Rows, SweepSpec
from prunelake.sweeps import steps
from prunelake.sweeps.run import run_sweep
from tests.support.limits import HANG_S
from tests.support.servers.ray_cluster import NODE, descendants, two_nodes
from tests.support.sweeps.sweep_processes import tables

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.usefixtures("prefect")

SHARDS = [f"{first:06}-{first + 4:06}" for first in range(0, 20, 4)]


@pytest.fixture(scope="module")
def cluster() -> "Iterator[Cluster]":
    with two_nodes() as found:
        yield found


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one core like the workers of Ray: with more cores, last bits may differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def spec(tiny_folder: Path) -> SweepSpec:
    return SweepSpec(
        model=str(tiny_folder),
        task="everyday_knowledge",
        rows=Rows(first=12),
        levels=(0, 2),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(operators=("replace",), fractions=(0.2,)),
    )


def on_ray(cluster: "Cluster", folder: Path, **changed: Any) -> Settings:
    return Settings(
        lake=folder / "lake",
        cache=folder / "cache",
        device="cpu",
        task_runner="ray",
        ray_address=cluster.address,
    ).model_copy(update=changed)


@pytest.mark.endurance
def test_an_error_of_a_shard_is_raised_unchanged(
    cluster: "Cluster", spec: SweepSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedModel("not this one")

    monkeypatch.setattr(steps, "measure_shard", refuse)
    with pytest.raises(UnsupportedModel, match="not this one"):
        sweep(spec, on_ray(cluster, tmp_path))
    assert not read.run_ids(tmp_path / "lake")


@pytest.mark.endurance
def test_a_shard_that_kills_its_workers_is_named(
    cluster: "Cluster", spec: SweepSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), 9)

    monkeypatch.setattr(steps, "measure_shard", die)
    with pytest.raises(RayUnavailable, match="could not compute shard 0000"):
        sweep(spec, on_ray(cluster, tmp_path))
    assert not read.run_ids(tmp_path / "lake")


@pytest.mark.endurance
def test_a_process_with_a_gpu_keeps_its_model(
    cluster: "Cluster", spec: SweepSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node has a logical GPU; the model computes on the CPU."""
    path, measure_shard = str(tmp_path / "ledger"), steps.measure_shard

    def counted(*given: Any, log: Any) -> Any:
        from prunelake.sweeps.steps import _model_cache

        had_model = bool(_model_cache)
        cost = measure_shard(*given, log=log)
        with Path(path).open("a", encoding="utf-8") as lines:
            lines.write(f"{os.getpid()} {had_model}\n")
        return cost

    monkeypatch.setattr(steps, "measure_shard", counted)
    more = spec.model_copy(update={"rows": Rows(first=32)})
    sweep(more, on_ray(cluster, tmp_path, ray_gpus=1))
    shards = [line.split() for line in Path(path).read_text("utf-8").splitlines()]
    processes = {pid for pid, _ in shards}
    assert len(shards) == 8
    assert len(processes) <= 2
    assert sum(had_model == "False" for _, had_model in shards) <= len(processes)


@pytest.mark.endurance
def test_a_node_that_joins_and_a_killed_node_change_no_result(
    cluster: "Cluster",
    spec: SweepSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,  # noqa: ARG001  # holds while it runs
) -> None:
    """A node finishes a shard and is killed in its next shard; then a third node joins.

    The head continues, and begins its second shard only with the third node beside it.
    """
    spec = spec.model_copy(update={"rows": Rows(first=20)})
    head, doomed = cluster.head_node, next(iter(cluster.worker_nodes))
    assert head is not None
    ledger = tmp_path / "ledger"
    ledger.touch()
    head_id, doomed_id, path, patience = head.node_id, doomed.node_id, str(ledger), HANG_S
    measure_shard = steps.measure_shard

    def staged(work: Any, *given: Any, log: Any) -> Any:
        import ray

        def nodes() -> list[str]:
            """The nodes that have begun shards: one entry per shard, in order."""
            return [line.split()[1] for line in Path(path).read_text("utf-8").splitlines()]

        here = ray.get_runtime_context().get_node_id()
        is_second = here in nodes()
        with Path(path).open("a", encoding="utf-8") as lines:
            lines.write(f"{work.shard.name} {here}\n")
        end = time.monotonic() + patience

        def must_wait() -> bool:
            begun = nodes()
            if here == doomed_id:
                return is_second  # until it is killed
            is_alone = begun.count(head_id) > 1 and not {*begun} - {head_id, doomed_id}
            return here == head_id and (begun.count(doomed_id) < 2 or is_alone)

        while must_wait():
            if time.monotonic() > end:
                raise TimeoutError(f"{work.shard.name} waited for another node")
            time.sleep(0.1)
        return measure_shard(work, *given, log=log)

    def begun() -> list[list[str]]:
        return [line.split() for line in ledger.read_text("utf-8").splitlines()]

    def on_doomed() -> list[str]:
        return [name for name, node in begun() if node == doomed_id]

    def kill() -> None:
        end = time.monotonic() + HANG_S
        while len(on_doomed()) < 2:
            if time.monotonic() > end:
                raise TimeoutError("the doomed node never began a second shard")
            time.sleep(0.1)
        raylet = doomed.all_processes["raylet"][0].process.pid
        for process in [psutil.Process(raylet), *descendants(raylet)]:
            process.kill()
        cluster.add_node(**NODE)

    undisturbed = Settings(lake=tmp_path / "undisturbed", cache=tmp_path / "cache", device="cpu")
    run_sweep(spec, undisturbed)
    monkeypatch.setattr(steps, "measure_shard", staged)
    settings = on_ray(cluster, tmp_path)
    killer = threading.Thread(target=kill)
    killer.start()
    sweep(spec, settings)
    killer.join()
    first, second = on_doomed()
    assert sorted(name for name, _ in begun()) == sorted([*SHARDS, second])
    joined = {node for _, node in begun()} - {head_id, doomed_id}
    assert len(joined) == 1
    killed_on, repeated_on = (node for name, node in begun() if name == second)
    assert killed_on == doomed_id
    assert repeated_on in {head_id, *joined}
    assert [node for name, node in begun() if name == first] == [doomed_id]
    found = tables(settings.lake)
    for name, frame in tables(undisturbed.lake).items():
        # DuckDB sums derived values on several threads in any order, so last bits differ.
        assert_frame_equal(found[name], frame, check_exact=name in RUN_TABLES)
    assert not verify_lake(settings.lake)
    assert list((settings.lake / ".shards").iterdir()) == []
    assert len(read.run_ids(settings.lake)) == 1
