"""What a chart or a finding is about: one run, a level of it and a metric."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.errors import NotFound, NothingToShow
from prunelake.lake.bound_query import Connection

from ..queries import runs
from . import level_rows

DEFAULT_METRIC = "ece"


@dataclass(frozen=True)
class Selection:
    """A run (a row of `runs`), the pruned level set beside the unpruned one, and a metric."""

    run: Mapping[str, Any]
    level: int
    metric: str = DEFAULT_METRIC

    @property
    def run_id(self) -> str:
        """The run's id."""
        run_id: str = self.run["run_id"]
        return run_id


def find_run(
    connection: Connection,
    run_id: str | None = None,
    model: str | None = None,
    task: str | None = None,
    strategy: str | None = None,
) -> dict[str, Any]:
    """The latest run that fits: a model by its whole reference, or by the last part of it.

    Raises:
        NotFound: none fits; its choices are the runs.
    """
    asked = {"run": run_id, "model": model, "task": task, "strategy": strategy}
    found = runs.matching_runs(run_id, model, task, strategy).rows(connection)
    if found.is_empty():
        told = ", ".join(f"{name} {value!r}" for name, value in asked.items() if value is not None)
        choices = runs.run_labels().rows(connection)
        if choices.is_empty():
            raise NotFound("the snapshot holds no runs; sweep or import one, then publish")
        raise NotFound(f"no run of {told}; GET /models lists the runs", choices["name"].to_list())
    return found.row(0, named=True)


def checked_selection(
    run: Mapping[str, Any], levels: pl.DataFrame, level: int | None, metric: str | None
) -> Selection:
    """The subject of a run; `levels` are its rows of `run_metrics.headline_metrics`.

    Without a level it is the deepest one of stable accuracy (see `level_rows.default_level`).

    Raises:
        NotFound: a level or metric that the run does not have.
        NothingToShow: a run without any metric.
    """
    known = sorted(set(levels["level"]))
    if not known:
        raise NothingToShow(
            f"run {run['run_id']} has no metrics; `prunelake analyse`, then publish"
        )
    if level is not None and level not in known:
        raise NotFound(f"run {run['run_id']} has no level {level}", map(str, known))
    metrics = sorted(set(levels.drop_nulls("value")["metric"]))
    if metric is not None and metric not in metrics:
        raise NotFound(f"run {run['run_id']} has no metric {metric!r}", metrics)
    if level is None:
        level = level_rows.default_level(levels) or 0
    return Selection(run, level, metric or DEFAULT_METRIC)
