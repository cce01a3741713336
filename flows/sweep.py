"""One sweep of one model on one task, as a flow of Prefect."""

from prefect import flow

from prunelake.flows.executor import PrefectExecutor
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.sweeps.run import run_sweep


@flow(name="sweep", flow_run_name="{spec.model} {spec.task_name} {spec.strategy.label}")
def sweep(spec: SweepSpec, settings: Settings | None = None) -> str:
    """Evaluate one model on one task at every removal level; returns the run's id.

    This is `prunelake.sweeps.run.run_sweep` with tasks, retries, artifacts and events. It reuses
    complete runs and finished shards of the lake.
    """
    settings = settings or Settings()
    return run_sweep(spec, settings, PrefectExecutor(settings))
