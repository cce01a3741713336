"""Run the steps of a sweep as tasks of Prefect, in this process or on a Ray cluster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from prunelake.flows.ray_shards import ray_shards
from prunelake.flows.serverless import is_in_run
from prunelake.flows.tasks import log_to, step_task
from prunelake.flows.verdicts import announce_verdicts
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.settings import Settings
from prunelake.sweeps.early_checks import no_server_for_ray
from prunelake.sweeps.executor import RunShards, StepCall

if TYPE_CHECKING:  # it loads torch
    from prunelake.sweeps.progress import Progress

Result = TypeVar("Result")


def sweep_executor(settings: Settings) -> "PrefectExecutor | None":
    """The executor of the current flow run; None if no server is set.

    Raises:
        PrefectUnavailable: the settings ask for Ray, and no server is set.
    """
    if is_in_run():
        return PrefectExecutor(settings)
    if settings.task_runner != "local":
        raise no_server_for_ray()
    return None


class PrefectExecutor:
    """Runs each step as a task of the current flow run.

    Progress becomes an artifact. At the end, the verdicts become artifacts and an event.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._logger = get_run_logger()
        self._artifact: Any = None

    def log(self, text: str) -> None:
        """Log a line of the flow run."""
        log_to(self._logger)(text)

    def run(self, call: StepCall[Result]) -> Result:
        """Run a step as a task in this process."""
        task, parameters = step_task(call)
        result: Result = task(**parameters)
        return result

    @contextmanager
    def shards(self, settings: Settings, partial_run: PartialRun) -> Iterator[RunShards]:
        """Compute shards with the runner that PRUNELAKE_TASK_RUNNER names: `local` or `ray`.

        Raises:
            RayUnavailable, PrefectUnavailable, InvalidSpec, LakeError: as `ray_shards.ray_shards`.
        """
        if settings.task_runner == "local":
            yield self._run_shards
            return
        with ray_shards(settings, partial_run) as run_tasks:
            yield lambda calls: run_tasks({name: step_task(call) for name, call in calls.items()})

    def _run_shards(
        self, calls: Mapping[str, StepCall[ComputeCost]]
    ) -> Iterator[tuple[str, ComputeCost]]:
        for name, call in calls.items():
            yield name, self.run(call)

    def show(self, progress: "Progress") -> None:
        """Show the progress as an artifact of the flow run, and log it."""
        percent = 100.0 * progress.share
        if self._artifact is None:
            self._artifact = create_progress_artifact(progress=percent)
        else:
            update_progress_artifact(self._artifact, progress=percent)
        if progress.text:
            self.log(progress.text)

    def finish(self, run: Mapping[str, Any]) -> None:
        """Announce the verdicts of the run."""
        self.log(f"run {run['run_id']}: {announce_verdicts(self._settings, run)}")
