"""Who runs the tasks of a sweep: this process, or the nodes of a Ray cluster."""

import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from prefect import Task, get_run_logger
from prefect.futures import as_completed
from prefect.settings import get_current_settings

from prunelake.errors import InvalidSpec, LakeError, NoCluster, NoServer, one_line
from prunelake.lake.partial_runs import Cost, Unfinished
from prunelake.settings import Settings

Calls = Mapping[str, Mapping[str, Any]]
"""What a task is called with, by the name of the shard that comes of it."""

Measure = Callable[[Task[..., Cost], Calls], Iterator[tuple[str, Cost]]]
"""Runs a task for each shard; the shards and what they took, as each is finished."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OBJECT_STORE_BYTES = 200_000_000
"""Of a cluster that is started for a sweep: what shards are given and return is small."""

PATIENCE_S = 60.0
"""How long a shared folder may take to show here what another machine wrote: NFS caches."""


@contextmanager
def runner(settings: Settings, unfinished: Unfinished) -> Iterator[Measure]:
    """Who runs tasks, as PRUNELAKE_TASK_RUNNER says, until the end of the block.

    `local` is this process, one shard after the other. `ray` is the cluster of
    PRUNELAKE_RAY_ADDRESS or RAY_ADDRESS, or without them one of this machine alone that is started
    for this block; as many shards at once as it has room for. A shard whose worker or machine dies
    is computed by another one.

    Raises:
        NoCluster: Ray is not installed, no cluster answers, or its workers die.
        NoServer: the workers of Ray could not reach the Prefect server of this flow.
        InvalidSpec: a device that Ray does not allot.
        LakeError: the workers of Ray write to another lake.
    """
    if settings.task_runner == "local":
        yield _in_this_process
        return
    if settings.device.startswith("cuda") and not settings.ray_gpus:
        raise InvalidSpec(
            f"PRUNELAKE_DEVICE={settings.device} on Ray: set PRUNELAKE_RAY_GPUS to what a shard "
            "takes of a GPU, for example 1 or 0.5"
        )
    with _on_ray(settings, unfinished) as measure:
        yield measure


def _in_this_process(task: Task[..., Cost], calls: Calls) -> Iterator[tuple[str, Cost]]:
    for name, parameters in calls.items():
        yield name, task(**parameters)


@contextmanager
def _on_ray(settings: Settings, unfinished: Unfinished) -> Iterator[Measure]:
    try:
        import ray
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options
    except ImportError as error:
        raise NoCluster(
            "PRUNELAKE_TASK_RUNNER=ray needs Ray: pip install 'prunelake[ray]', here and on each "
            "machine of the cluster"
        ) from error
    server = get_current_settings().api.url
    if not server:
        raise NoServer(
            "the workers of Ray tell a Prefect server what they do, and this flow has none that "
            "they could reach: set PREFECT_API_URL, for example to http://10.0.0.1:4200/api "
            "(docs/operations.md)"
        )
    address = settings.ray_address or os.environ.get("RAY_ADDRESS")
    options = {"logging_level": logging.WARNING, "log_to_driver": False, "include_dashboard": False}
    if address:
        _check_answers(address)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["object_store_memory"] = OBJECT_STORE_BYTES
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(RayTaskRunner[Cost](address or "local", options))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_answer(address or "this machine", error) from error
        nodes = [node for node in ray.nodes() if node["Alive"]]
        _check_reachable(server, {node["NodeManagerAddress"] for node in nodes})
        wanted = {"CPU": settings.ray_cpus, "GPU": settings.ray_gpus}
        if not any(_has(node["Resources"], wanted) for node in nodes):
            get_run_logger().warning("no node of the Ray cluster has %s: waiting for one", wanted)
        stack.enter_context(remote_options(num_cpus=settings.ray_cpus, num_gpus=settings.ray_gpus))

        def measure(task: Task[..., Cost], calls: Calls) -> Iterator[tuple[str, Cost]]:
            names = {cluster.submit(task, {**calls[name]}): name for name in calls}
            for future in as_completed([*names]):
                name = names[future]
                try:
                    cost = future.result()
                except ray.exceptions.RayError as error:
                    reason = one_line(getattr(error, "cause", None) or error)
                    raise NoCluster(
                        f"the Ray cluster could not compute shard {name} ({reason}); see the logs "
                        "of its workers and sweep again: finished shards are kept"
                    ) from error
                _wait_for(unfinished, name)
                yield name, cost

        yield measure


def _check_answers(address: str) -> None:
    """Raise where nobody listens: Ray itself would wait for a cluster that is gone, for ever."""
    where = urlsplit(f"//{address.rpartition('://')[2]}")
    try:
        socket.create_connection((where.hostname or "", where.port or 0), timeout=10).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> NoCluster:
    return NoCluster(
        f"no Ray cluster answers at {address} ({one_line(error)}); set PRUNELAKE_RAY_ADDRESS to "
        "host:port of its head, and RAY_AUTH_MODE and RAY_AUTH_TOKEN to those of the cluster"
    )


def _check_reachable(server: str, hosts: Collection[str]) -> None:
    if urlsplit(server).hostname in LOOPBACK and len(hosts) > 1:
        raise NoServer(
            f"PREFECT_API_URL is {server}, which means another machine on each of the "
            f"{len(hosts)} machines of the Ray cluster: give it an address that all of them reach"
        )


def _has(resources: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(resources.get(name, 0) >= count for name, count in wanted.items())


def _wait_for(unfinished: Unfinished, name: str) -> None:
    """See here what a worker has kept.

    Raises:
        LakeError: it has kept it somewhere else.
    """
    end = time.monotonic() + PATIENCE_S
    while unfinished.cost(name) is None:
        if time.monotonic() > end:
            raise LakeError(
                f"a worker of Ray has computed shard {name}, which is not in {unfinished.folder}: "
                "all machines of the cluster need the same folder as PRUNELAKE_LAKE"
            )
        time.sleep(0.5)
