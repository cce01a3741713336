"""Run a sweep for a command: in this process or, if a Prefect server is named, as a flow."""

import logging
import os
from typing import TYPE_CHECKING

import typer

from prunelake.cli.interruption import quick_stop
from prunelake.errors import PruneLakeError
from prunelake.quick_imports import quick_imports
from prunelake.spec import SweepSpec

if TYPE_CHECKING:
    from prunelake.settings import Settings
    from prunelake.sweeps.until_decided.run import Limits, Round


def evaluate(spec: SweepSpec, settings: "Settings") -> str:
    """Run a sweep; its progress goes to stderr. Returns the run's id.

    With PREFECT_API_URL the sweep is a flow that reports to that server; Ray needs a server.
    Otherwise no server is involved.

    Raises:
        PruneLakeError: as `sweeps.run.run_sweep`.
    """
    from prunelake.sweeps.early_checks import check_sweep

    with quick_stop():
        check_sweep(spec, settings)
        if _has_server(settings):
            return _evaluate_as_flow(spec, settings)
        with quick_imports():
            from prunelake.cli.text.progress import console_executor
            from prunelake.sweeps.run import run_sweep

        with console_executor() as executor:
            return run_sweep(spec, settings, executor)


def evaluate_until_decided(
    spec: SweepSpec, limits: "Limits", settings: "Settings"
) -> "list[Round]":
    """Sweep in rounds until every verdict is decided; a line about each round goes to stderr.

    Each round runs as in `evaluate`: in this process, or as a flow.

    Raises:
        PruneLakeError: as `until_decided.run.run_until_decided`.
    """
    with quick_stop():
        if _has_server(settings):
            from prunelake.sweeps.early_checks import check_sweep

            check_sweep(spec, settings)
            from prunelake.flows.until_decided import until_decided

            _drop_own_tracebacks()
            return until_decided(spec, limits, settings)
        from prunelake.sweeps.until_decided.run import run_until_decided

        return run_until_decided(
            spec,
            limits,
            settings,
            lambda round_spec: evaluate(round_spec, settings),
            lambda finished: typer.echo(str(finished), err=True),
        )


def _has_server(settings: "Settings") -> bool:
    if os.environ.get("PREFECT_API_URL"):
        return True
    if settings.task_runner == "ray":
        from prunelake.sweeps.early_checks import no_server_for_ray

        raise no_server_for_ray()
    return False


def _evaluate_as_flow(spec: SweepSpec, settings: "Settings") -> str:
    from prunelake.flows.sweep import sweep

    _drop_own_tracebacks()
    return sweep(spec, settings)


def _drop_own_tracebacks() -> None:
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_drop_own_traceback)


def _drop_own_traceback(record: logging.LogRecord) -> bool:
    """Drop the traceback of an error of PruneLake: the command line prints it as one line."""
    if record.exc_info and isinstance(record.exc_info[1], PruneLakeError):
        record.exc_info = None
    return True
