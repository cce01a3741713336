"""Measure the models of a gate: by a sweep, or by a comparison of several models."""

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from prunelake.comparison.run import run_comparison
from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import InvalidSpec, validation_message
from prunelake.gate.check import check_runs
from prunelake.gate.gate_file import Gate
from prunelake.gate.results import GateResult
from prunelake.settings import Settings
from prunelake.spec import Rows, SweepSpec
from prunelake.tasks.catalogue import find_task

Evaluate = Callable[[SweepSpec], str]
"""Runs a sweep, or finds it in the lake, and returns its run id."""


def measure_and_check(gate: Gate, rows: Rows, settings: Settings, evaluate: Evaluate) -> GateResult:
    """Measure the missing results on some rows of each task; then check every criterion.

    Raises:
        PruneLakeError: as `check_runs`, `run_comparison` and the sweeps.
    """
    specs = {task: spec_of(gate, task, rows) for task in gate.all_tasks}
    runs = measure(specs, settings, evaluate)
    return check_runs(settings.lake, gate, runs)


def measure(
    specs: Mapping[str, SweepSpec | ComparisonSpec], settings: Settings, evaluate: Evaluate
) -> dict[str, str]:
    """The run id of each spec, by task."""
    return {
        task: run_comparison(spec, settings, evaluate)
        if isinstance(spec, ComparisonSpec)
        else evaluate(spec)
        for task, spec in specs.items()
    }


def spec_of(gate: Gate, task: str, rows: Rows) -> SweepSpec | ComparisonSpec:
    """The spec of a task.

    Raises:
        InvalidSpec: a value of the gate does not fit a sweep or a comparison.
        UnknownTask: no such task.
    """
    find_task(task)  # before the models are measured on other tasks
    try:
        return gate.spec(task, rows)
    except ValidationError as error:
        raise InvalidSpec(f"gate: {validation_message(error.errors())}") from error
