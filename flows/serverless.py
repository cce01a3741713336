"""Flows that run without a Prefect server when none is set."""

import atexit
import logging
import os
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow, flow_engine, get_run_logger
from prefect.client.schemas import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.settings import get_current_settings
from prefect.states import Completed, Failed
from prefect.utilities.callables import get_call_parameters

from prunelake.errors import one_line
from prunelake.flows.missed_runs import REASON, is_needless
from prunelake.flows.short_logs import leave_out_calls
from prunelake.flows.worker_loss import end_with_worker
from prunelake.watch.failures import is_machine_failure

if "PREFECT__FLOW_RUN_ID" in os.environ:  # a worker started this process for one flow run
    end_with_worker()
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
    # Prefect keeps references to a flow's parameter types until the interpreter has ended. Through
    # them DuckDB's binding stays alive and prints a page about "leaked" objects into each log.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # nobody watches them in a log

leave_out_calls()

P = ParamSpec("P")
R = TypeVar("R")

MACHINE_FAILURE = "MachineFailure"
"""The name of the failed state of a flow run whose machine failed."""

Logger = logging.Logger | logging.LoggerAdapter[Any]


class ServerlessFlow(Flow[P, R]):
    """A flow that reports to the server of PREFECT_API_URL, and needs no server without it.

    Without a server a call runs the function of the flow in this process. (A flow of Prefect would
    start a server for this process, which takes up to a minute and survives a kill.)
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]  # Prefect's overloads also return a State on request
        """Run the flow, or its function if there is no server."""
        parameters = get_call_parameters(self.fn, args, kwargs)
        if has_server():
            return cast("R", flow_engine.run_flow(self, parameters=parameters))
        function: Callable[..., R] = self.fn
        return function(**self.validate_parameters(parameters))


def serverless_flow(
    name: str, flow_run_name: str | Callable[[], str] | None = None, *, is_periodic: bool = False
) -> Callable[[Callable[P, R]], ServerlessFlow[P, R]]:
    """Make a function a flow that needs no server.

        @serverless_flow("sweep", "{spec.model} {spec.task_name}")
        def sweep(spec: SweepSpec) -> str: ...

    If several runs of a periodic flow are due, one of them calls the function.

    If its machine fails (disk, memory, network, a server), the state of the flow run is called
    `MachineFailure`, and `watch` starts the sweep again at once.
    """

    def decorate(function: Callable[P, R]) -> ServerlessFlow[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
            try:
                if is_periodic and is_in_run() and is_needless():
                    return Completed(name="Skipped", message=REASON)
                return function(*args, **kwargs)
            except Exception as error:
                if not is_in_run() or not is_machine_failure(error):
                    raise
                run_logger().error("%s", one_line(error))
                return Failed(name=MACHINE_FAILURE, message=one_line(error), data=error)

        flow = ServerlessFlow(run, name=name, flow_run_name=flow_run_name)
        return cast("ServerlessFlow[P, R]", flow)  # a call raises the error in the state

    return decorate


def has_server() -> bool:
    """Whether the settings of Prefect name a server: PREFECT_API_URL, or its profile."""
    return bool(get_current_settings().api.url) or is_in_run()


def is_in_run() -> bool:
    """Whether this code runs in a flow run or a task run of Prefect."""
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


def run_logger() -> Logger:
    """The logger of the current run of Prefect; outside of runs, the logger `prunelake`."""
    return get_run_logger() if is_in_run() else logging.getLogger("prunelake")
