"""Executors: they run the steps of a sweep and take its messages."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.settings import Settings
from prunelake.sweeps.early_checks import no_server_for_ray

if TYPE_CHECKING:  # it loads torch, and a worker imports this file before it reads its spec
    from prunelake.sweeps.progress import Progress

Result = TypeVar("Result")

Log = Callable[[str], None]
"""Takes one line about the progress of the sweep."""


@dataclass(frozen=True)
class StepCall(Generic[Result]):
    """A function of `sweep.steps` and its arguments; the executor adds `log`.

    `label` names the call, for example `examples 0 to 3`.
    """

    step: Callable[..., Result]
    arguments: tuple[Any, ...]
    label: str


RunShards = Callable[[Mapping[str, StepCall[ComputeCost]]], Iterator[tuple[str, ComputeCost]]]
"""Runs a call for each shard; yields the name and the cost of each shard that is finished."""


class Executor(Protocol):
    """Runs the steps of a sweep: `LocalExecutor`, or `flows.executor` with tasks of Prefect."""

    def log(self, text: str) -> None:
        """Take one line about the progress of the sweep."""

    def run(self, call: StepCall[Result]) -> Result:
        """Run a step in this process."""

    def shards(
        self, settings: Settings, partial_run: PartialRun
    ) -> AbstractContextManager[RunShards]:
        """Provide the workers that compute shards, until the end of the block."""

    def show(self, progress: "Progress") -> None:
        """Take the progress of the sweep, at its start and after each shard."""

    def finish(self, run: Mapping[str, Any]) -> None:
        """Take the row of `runs` when the run and its analysis are in the lake."""


class LocalExecutor:
    """Runs every step in this process, one after the other.

    `log` gets the messages; by default they go to the logger `prunelake`.
    """

    def __init__(self, log: Log | None = None) -> None:
        self._log = log or logging.getLogger("prunelake").info

    def log(self, text: str) -> None:
        """Pass the line on."""
        self._log(text)

    def run(self, call: StepCall[Result]) -> Result:
        """Run the step now."""
        return call.step(*call.arguments, log=self._log)

    @contextmanager
    def shards(self, settings: Settings, partial_run: PartialRun) -> Iterator[RunShards]:  # noqa: ARG002  # an Executor
        """Compute shards one after the other.

        Raises:
            PrefectUnavailable: the settings ask for Ray.
        """
        if settings.task_runner != "local":
            raise no_server_for_ray()
        yield self._run_shards

    def _run_shards(
        self, calls: Mapping[str, StepCall[ComputeCost]]
    ) -> Iterator[tuple[str, ComputeCost]]:
        for name, call in calls.items():
            yield name, self.run(call)

    def show(self, progress: "Progress") -> None:
        """Log the progress once something is computed."""
        if progress.text:
            self._log(progress.text)

    def finish(self, run: Mapping[str, Any]) -> None:
        """Do nothing: the caller of the sweep has the run's id."""
