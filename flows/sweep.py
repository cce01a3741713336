"""One sweep of one model on one task, as a flow of Prefect."""

from prunelake.flows.serverless import serverless_flow
from prunelake.quick_imports import quick_imports
from prunelake.settings import Settings
from prunelake.spec import SweepSpec


@serverless_flow("sweep", "{spec.model} {spec.task_name} {spec.strategy.label}")
def sweep(spec: SweepSpec, settings: Settings | None = None) -> str:
    """Evaluate one model on one task at every removal level; returns the run's id.

    This is `prunelake.sweeps.run.run_sweep` with tasks, retries, artifacts and events. It reuses
    complete runs and finished shards of the lake. Without a Prefect server (PREFECT_API_URL) it
    only calls that function.
    """
    from prunelake.flows.executor import sweep_executor

    settings = settings or Settings()
    executor = sweep_executor(settings)
    with quick_imports():  # loads torch, after wrong specs are refused
        from prunelake.sweeps.run import run_sweep

    return run_sweep(spec, settings, executor)
