"""Several sweeps of one model in one flow run: the model is loaded once."""

from typing import Annotated

from pydantic import Field

from prunelake.errors import one_line
from prunelake.flows.serverless import run_logger, serverless_flow
from prunelake.quick_imports import quick_imports
from prunelake.settings import Settings
from prunelake.spec import SweepSpec


def _flow_run_name() -> str:
    from prefect.runtime import flow_run

    first, *others = flow_run.parameters["specs"]
    name = f"{first.model} {first.task_name} {first.strategy.label}"
    return f"{name} and {len(others)} more" if others else name


@serverless_flow("sweeps", _flow_run_name)
def sweeps(
    specs: Annotated[list[SweepSpec], Field(min_length=1)], settings: Settings | None = None
) -> list[str]:
    """Run sweeps one after the other; returns the ids of their runs.

    This process keeps the loaded model from sweep to sweep, and finds the removal order of the
    first sweep in the lake. A sweep that fails does not stop the others.

    Raises:
        Exception: the first error of a sweep, after all other sweeps.
    """
    from prunelake.flows.executor import sweep_executor

    settings = settings or Settings()
    executors = [sweep_executor(settings) for _ in specs]
    with quick_imports():  # loads torch, after wrong specs are refused
        from prunelake.sweeps.run import run_sweep

    run_ids: list[str] = []
    errors: list[Exception] = []
    for spec, executor in zip(specs, executors, strict=True):
        try:
            run_ids.append(run_sweep(spec, settings, executor))
        except Exception as error:  # any error of a model; the flow raises it below
            run_logger().error("%s %s: %s", spec.model, spec.task_name, one_line(error))
            errors.append(error)
    if errors:
        raise errors[0]
    return run_ids
