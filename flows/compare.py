"""A comparison of candidates with a baseline, as a flow of Prefect."""

from prunelake.comparison_spec import ComparisonSpec
from prunelake.flows.serverless import serverless_flow
from prunelake.flows.sweep import sweep
from prunelake.quick_imports import quick_imports
from prunelake.settings import Settings


@serverless_flow("compare", "{spec.baseline.name} {spec.task_name} comparison")
def compare(spec: ComparisonSpec, settings: Settings | None = None) -> str:
    """Compare candidates with a baseline on the same rows of a task; returns the run's id.

    This is `prunelake.comparison.run.run_comparison`. The sweep of each model is a run of the flow
    `sweep`, with its tasks, retries and artifacts.
    """
    with quick_imports():  # loads torch
        from prunelake.comparison.run import run_comparison

    settings = settings or Settings()
    return run_comparison(spec, settings, lambda own: sweep(own, settings))
