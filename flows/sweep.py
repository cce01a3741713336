"""One sweep of one model on one task, as a flow of Prefect."""

from prunelake.flows.executor import PrefectExecutor
from prunelake.flows.serverless import is_in_run, serverless_flow
from prunelake.settings import Settings
from prunelake.spec import SweepSpec


@serverless_flow("sweep", "{spec.model} {spec.task_name} {spec.strategy.label}")
def sweep(spec: SweepSpec, settings: Settings | None = None) -> str:
    """Evaluate one model on one task at every removal level; returns the run's id.

    This is `prunelake.sweeps.run.run_sweep` with tasks, retries, artifacts and events. It reuses
    complete runs and finished shards of the lake. Without a Prefect server (PREFECT_API_URL) it
    only calls that function.
    """
    from prunelake.sweeps.run import run_sweep  # it loads torch; a wrong spec is refused before

    settings = settings or Settings()
    return run_sweep(spec, settings, PrefectExecutor(settings) if is_in_run() else None)
