"""The steps of a sweep as tasks of Prefect, with retries where a retry can help."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from prunelake.errors import DatasetNotFound, LakeError, ModelNotFound
from prunelake.sweeps.executor import Log, StepCall

Logger = logging.Logger | logging.LoggerAdapter[Any]
Result = TypeVar("Result")


class StepTask(NamedTuple):
    """A task and its parameters."""

    task: Task[..., Any]
    parameters: Mapping[str, Any]


def step_task(call: StepCall[Any]) -> StepTask:
    """The task that runs a step; the server shows the name and the label of the step."""
    named = run_step.with_options(name=call.step.__name__, task_run_name=call.label)
    return StepTask(named, {"step": call.step, "arguments": call.arguments})


def is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a retry may help: it may if the network or the disk failed."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, LakeError):
        return isinstance(result.__cause__, OSError)
    return isinstance(result, ModelNotFound | DatasetNotFound)


@task(cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=is_transient)
def run_step(step: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    """Run a step; its messages go to the log of the task."""
    return step(*arguments, log=log_to(get_run_logger()))


def log_to(logger: Logger) -> Log:
    """A function that logs a line; a line that begins with `warning: ` becomes a warning."""

    def log(text: str) -> None:
        is_warning = text.startswith("warning: ")
        level = logging.WARNING if is_warning else logging.INFO
        logger.log(level, "%s", text.removeprefix("warning: "))

    return log
