"""Run a sweep for a command: in this process or, if a Prefect server is named, as a flow."""

import logging
import os

import typer

from prunelake.errors import PruneLakeError
from prunelake.settings import Settings
from prunelake.spec import SweepSpec


def evaluate(spec: SweepSpec, settings: Settings) -> str:
    """Run a sweep; its messages go to stderr. Returns the run's id.

    With PREFECT_API_URL the sweep is a flow that reports to that server; Ray needs the flow, too.
    Otherwise no server is involved.

    Raises:
        PruneLakeError: as `sweep.run.run_sweep`.
    """
    if os.environ.get("PREFECT_API_URL") or settings.task_runner == "ray":
        return _evaluate_as_flow(spec, settings)
    from prunelake.sweep.executor import LocalExecutor
    from prunelake.sweep.run import run_sweep

    return run_sweep(spec, settings, LocalExecutor(lambda text: typer.echo(text, err=True)))


def _evaluate_as_flow(spec: SweepSpec, settings: Settings) -> str:
    from flows.sweep import sweep

    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_drop_own_traceback)
    return sweep(spec, settings)


def _drop_own_traceback(record: logging.LogRecord) -> bool:
    """Drop the traceback of an error of PruneLake: the command line prints it as one line."""
    if record.exc_info and isinstance(record.exc_info[1], PruneLakeError):
        record.exc_info = None
    return True
