"""Errors before a Ray cluster starts work; tests/flows/test_ray.py has a real cluster."""

import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_ray.context import RemoteOptionsContext
from ray.exceptions import WorkerCrashedError

from prunelake.errors import (
    InvalidSpec,
    LakeError,
    PrefectUnavailable,
    PruneLakeError,
    RayUnavailable,
    UnsupportedModel,
)
from prunelake.flows import ray_shards as module
from prunelake.flows.ray_shards import ray_shards
from prunelake.lake.partial_runs import PartialRun
from prunelake.settings import Settings

SERVER = {PREFECT_API_URL: "http://127.0.0.1:4200/api"}


@pytest.fixture
def partial_run(tmp_path: Path) -> PartialRun:
    return PartialRun(tmp_path, "run")


def refused(partial_run: PartialRun, **settings: Any) -> None:
    with ray_shards(Settings(task_runner="ray", **settings), partial_run):
        pytest.fail("accepted")


def test_the_variables_choose_the_runner_of_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TASK_RUNNER": "ray", "RAY_ADDRESS": "head:1", "RAY_GPUS": "0.5"}.items():
        monkeypatch.setenv(f"PRUNELAKE_{name}", value)
    found = Settings()
    assert (found.task_runner, found.ray_address, found.ray_gpus) == ("ray", "head:1", 0.5)


@pytest.mark.parametrize("module", ["ray", "prefect_ray"])
def test_without_the_extra_the_error_names_it(
    partial_run: PartialRun, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RayUnavailable, match=r"pip install 'prunelake\[ray\]'"):
        refused(partial_run)


def test_a_flow_on_a_server_inside_its_own_process_is_refused(partial_run: PartialRun) -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(PrefectUnavailable, match="set PREFECT_API_URL"),
    ):
        refused(partial_run)


def test_a_gpu_that_ray_does_not_assign_is_refused(partial_run: PartialRun) -> None:
    with pytest.raises(InvalidSpec, match="PRUNELAKE_DEVICE=cuda:1 on Ray: set PRUNELAKE_RAY_GPUS"):
        refused(partial_run, device="cuda:1")


@pytest.mark.parametrize("variable", ["PRUNELAKE_RAY_ADDRESS", "RAY_ADDRESS"])
def test_a_cluster_that_does_not_answer_is_named(
    partial_run: PartialRun, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv(variable, f"127.0.0.1:{port}")
    with (
        temporary_settings(SERVER),
        pytest.raises(
            RayUnavailable, match=f"answers at 127.0.0.1:{port} .ConnectionRefused"
        ) as told,
    ):
        refused(partial_run)
    assert "\n" not in str(told.value)


def test_a_server_that_other_machines_cannot_reach_is_refused() -> None:
    module._check_reachable("http://127.0.0.1:4200/api", {"10.0.0.1"})
    module._check_reachable("http://server:4200/api", {"10.0.0.1", "10.0.0.2"})
    with pytest.raises(PrefectUnavailable, match="each of the 2 machines of the Ray cluster"):
        module._check_reachable("http://localhost:4200/api", {"10.0.0.1", "10.0.0.2"})


def test_shards_written_to_another_lake_are_an_error(
    partial_run: PartialRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARED_FOLDER_TIMEOUT_S", 0)
    with pytest.raises(LakeError, match="all machines of the cluster need the same folder"):
        module._wait_until_visible(partial_run, "000000-000004")


class FailingRunner:
    """Stands for `RayTaskRunner` and its futures: each task fails with the given error."""

    error: Exception

    def __init__(self, *_: object) -> None:
        pass

    def __class_getitem__(cls, _: object) -> type["FailingRunner"]:
        return cls

    def __enter__(self) -> "FailingRunner":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, *_: object) -> "FailingRunner":
        options = RemoteOptionsContext.get().current_remote_options
        assert options == {"num_cpus": 1, "num_gpus": 0, "max_calls": 0}
        return self

    def result(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (WorkerCrashedError(), RayUnavailable, "could not compute shard 000000-000004 .WorkerCr"),
        (UnsupportedModel("not this one"), UnsupportedModel, "not this one"),
    ],
)
def test_an_error_of_a_shard_names_the_shard_or_is_unchanged(
    partial_run: PartialRun,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[Exception],
    message: str,
) -> None:
    node = {"Alive": True, "NodeManagerAddress": "127.0.0.1", "Resources": {"CPU": 1.0}}
    monkeypatch.setattr(FailingRunner, "error", error, raising=False)
    monkeypatch.setattr("prefect_ray.RayTaskRunner", FailingRunner)
    monkeypatch.setattr("ray.nodes", lambda: [node])
    monkeypatch.setattr(module, "as_completed", iter)
    shard: Any = SimpleNamespace(task=None, parameters={})
    with (
        temporary_settings(SERVER),
        ray_shards(Settings(task_runner="ray"), partial_run) as run_tasks,
        pytest.raises(expected, match=message),
    ):
        list(run_tasks({"000000-000004": shard}))


def all_errors(base: type[PruneLakeError] = PruneLakeError) -> Iterator[type[PruneLakeError]]:
    for error in base.__subclasses__():
        yield error
        yield from all_errors(error)


def test_errors_reach_another_process_unchanged() -> None:
    errors = [error("text") for error in all_errors()]
    assert UnsupportedModel in map(type, errors)
    for error in errors:
        found = pickle.loads(pickle.dumps(error))
        assert (type(found), str(found)) == (type(error), str(error))
