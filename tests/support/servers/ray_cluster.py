"""A cluster of Ray on this machine: each node has a process and workers of its own."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


NODE: dict[str, Any] = {
    "num_cpus": 1,
    "num_gpus": 1,  # in Ray's books alone
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.2",  # Ray treats 127.0.0.1 as no address
}
"""The options of a node: a core and a logical GPU."""


@contextmanager
def two_nodes() -> "Iterator[Cluster]":
    """A cluster of two nodes; no process outlives the block."""
    from ray.cluster_utils import Cluster

    # The name of this folder is short, because names of sockets in it must not be long.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        before = descendants(os.getpid())
        # Ray writes the address of a cluster of several nodes there, and expects the folder to
        # exist.
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        # This block ends all processes. Hooks of Ray would allow only the main thread to add nodes.
        cluster = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={**NODE, "temp_dir": folder},
        )
        try:
            cluster.add_node(**NODE)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            started = descendants(os.getpid()) - before
            cluster.shutdown()
            for process in started:
                if process.is_running():
                    process.kill()
            psutil.wait_procs(started, timeout=60)


def descendants(pid: int) -> set[psutil.Process]:
    """The children of a process, and their children."""
    return set(psutil.Process(pid).children(recursive=True))
