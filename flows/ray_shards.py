"""Compute the shards of a sweep on a Ray cluster."""

import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from prefect import get_run_logger
from prefect.futures import as_completed
from prefect.settings import get_current_settings

from prunelake.errors import InvalidSpec, LakeError, PrefectUnavailable, RayUnavailable, one_line
from prunelake.flows.tasks import StepTask
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.settings import Settings
from prunelake.sweeps.early_checks import no_server_for_ray

RunTasks = Callable[[Mapping[str, StepTask]], Iterator[tuple[str, ComputeCost]]]
"""Runs a task for each shard; yields the name and the cost of each shard that is finished."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
OBJECT_STORE_BYTES = 200_000_000
"""The object store of a cluster for one sweep: the inputs and results of shards are small."""

SHARED_FOLDER_TIMEOUT_S = 60.0
"""The longest wait for a file of another machine in a shared folder: NFS caches."""


@contextmanager
def ray_shards(settings: Settings, partial_run: PartialRun) -> Iterator[RunTasks]:
    """A Ray cluster that runs tasks, until the end of the block.

    PRUNELAKE_RAY_ADDRESS or RAY_ADDRESS names the cluster. Without them, a cluster on this machine
    starts for this block. The cluster runs as many shards at once as it has room for. If a worker
    or a machine dies, another computes its shard.

    Raises:
        RayUnavailable: Ray is not installed, no cluster answers, or its workers die.
        PrefectUnavailable: the workers of Ray cannot reach the Prefect server of this flow.
        InvalidSpec: a device that Ray does not assign.
        LakeError: the workers of Ray write to another lake.
    """
    if settings.device.startswith("cuda") and not settings.ray_gpus:
        raise InvalidSpec(
            f"PRUNELAKE_DEVICE={settings.device} on Ray: set PRUNELAKE_RAY_GPUS to the share of a "
            "GPU that a shard takes, for example 1 or 0.5"
        )
    try:
        import ray
        from prefect_ray import RayTaskRunner
        from prefect_ray.context import remote_options
    except ImportError as error:
        raise RayUnavailable(
            "PRUNELAKE_TASK_RUNNER=ray needs Ray: pip install 'prunelake[ray]', here and on each "
            "machine of the cluster"
        ) from error
    server = get_current_settings().api.url
    if not server:
        raise no_server_for_ray()
    address = settings.ray_address or os.environ.get("RAY_ADDRESS")
    options = {"logging_level": logging.WARNING, "log_to_driver": False, "include_dashboard": False}
    if address:
        _check_answers(address)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["object_store_memory"] = OBJECT_STORE_BYTES
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(RayTaskRunner[ComputeCost](address or "local", options))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster_error(address or "this machine", error) from error
        nodes = [node for node in ray.nodes() if node["Alive"]]
        _check_reachable(server, {node["NodeManagerAddress"] for node in nodes})
        wanted = {"CPU": settings.ray_cpus, "GPU": settings.ray_gpus}
        if not any(_has_resources(node["Resources"], wanted) for node in nodes):
            get_run_logger().warning("no node of the Ray cluster has %s: waiting", wanted)
        # By default Ray ends the process of a task that has a GPU, and the next shard would import
        # torch and load the model again.
        options_of_tasks = {"num_cpus": settings.ray_cpus, "num_gpus": settings.ray_gpus}
        stack.enter_context(remote_options(**options_of_tasks, max_calls=0))

        def run_tasks(tasks: Mapping[str, StepTask]) -> Iterator[tuple[str, ComputeCost]]:
            names = {
                cluster.submit(step.task, {**step.parameters}): name for name, step in tasks.items()
            }
            for future in as_completed([*names]):
                name = names[future]
                try:
                    cost = future.result()
                except ray.exceptions.RayError as error:
                    reason = one_line(getattr(error, "cause", None) or error)
                    raise RayUnavailable(
                        f"the Ray cluster could not compute shard {name} ({reason}); see the logs "
                        "of its workers and sweep again: finished shards are kept"
                    ) from error
                _wait_until_visible(partial_run, name)
                yield name, cost

        yield run_tasks


def _check_answers(address: str) -> None:
    """Raise if nothing listens at the address: Ray would wait forever for a missing cluster."""
    where = urlsplit(f"//{address.rpartition('://')[2]}")
    try:
        socket.create_connection((where.hostname or "", where.port or 0), timeout=10).close()
    except (OSError, ValueError) as error:
        raise _no_cluster_error(address, error) from error


def _no_cluster_error(address: str, error: Exception) -> RayUnavailable:
    return RayUnavailable(
        f"no Ray cluster answers at {address} ({one_line(error)}); set PRUNELAKE_RAY_ADDRESS to "
        "host:port of its head, and RAY_AUTH_MODE and RAY_AUTH_TOKEN to the values of the cluster"
    )


def _check_reachable(server: str, hosts: Collection[str]) -> None:
    if urlsplit(server).hostname in LOOPBACK_HOSTS and len(hosts) > 1:
        raise PrefectUnavailable(
            f"PREFECT_API_URL is {server}, and each of the {len(hosts)} machines of the Ray "
            "cluster takes this address for itself: set an address that all of them reach"
        )


def _has_resources(resources: Mapping[str, float], wanted: Mapping[str, float]) -> bool:
    return all(resources.get(name, 0) >= count for name, count in wanted.items())


def _wait_until_visible(partial_run: PartialRun, name: str) -> None:
    """Wait until this machine sees the shard that a worker has stored.

    Raises:
        LakeError: the worker has stored it in another folder.
    """
    end = time.monotonic() + SHARED_FOLDER_TIMEOUT_S
    while partial_run.shard_cost(name) is None:
        if time.monotonic() > end:
            raise LakeError(
                f"a worker of Ray has computed shard {name}, which is not in {partial_run.folder}: "
                "all machines of the cluster need the same folder as PRUNELAKE_LAKE"
            )
        time.sleep(0.5)
