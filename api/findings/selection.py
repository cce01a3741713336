"""The run, level and metric of a chart or a finding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from prunelake.errors import NotFound, NothingToShow

from ..queries import run_metrics, runs
from ..queries.row_cache import ReadRows
from ..queries.snapshot import Snapshot
from .level_names import REMOVALS, LevelNames
from .level_rows import default_level

DEFAULT_METRIC = "ece"


@dataclass(frozen=True)
class Selection:
    """A run (a row of `runs`), the level to compare with level 0, and a metric."""

    run: Mapping[str, Any]
    level: int
    metric: str = DEFAULT_METRIC
    names: LevelNames = REMOVALS

    @property
    def run_id(self) -> str:
        """The run's id."""
        run_id: str = self.run["run_id"]
        return run_id


@dataclass(frozen=True)
class SelectionRequest:
    """A reader's choice of run, level and metric; None means the default.

    The run is the latest run that matches; `model` is a model reference or its last part.
    """

    run_id: str | None = None
    model: str | None = None
    task: str | None = None
    strategy: str | None = None
    level: int | None = None
    metric: str | None = None


def load_selection(snapshot: Snapshot, request: SelectionRequest) -> Selection:
    """The run, level and metric that a request names.

    Raises:
        NotFound, NothingToShow: as `find_run` and `checked_selection`.
    """
    selection, _ = select_with_levels(snapshot.kept_rows, request)
    return selection


def select_with_levels(read: ReadRows, request: SelectionRequest) -> tuple[Selection, pl.DataFrame]:
    """The selection, and the rows of `run_metrics.headline_metrics` of its run.

    Raises:
        NotFound, NothingToShow: as `find_run` and `checked_selection`.
    """
    run = find_run(read, request)
    levels = read(run_metrics.headline_metrics([run["run_id"]]))
    return checked_selection(run, levels, request.level, request.metric), levels


def find_run(read: ReadRows, request: SelectionRequest) -> dict[str, Any]:
    """The latest run that matches the run id, model, task and strategy of a request.

    Raises:
        NotFound: no run matches; the choices are the runs of the lake.
    """
    matching = read(
        runs.matching_runs(request.run_id, request.model, request.task, request.strategy)
    )
    if not matching.is_empty():
        return matching.row(0, named=True)
    labels = read(runs.run_labels())["name"].to_list()
    if not labels:
        raise NotFound("the snapshot holds no runs; sweep or import one, then publish")
    wanted = {"model": request.model, "task": request.task, "strategy": request.strategy}
    given = [f"{name} {value!r}" for name, value in wanted.items() if value is not None]
    run = "no run" if request.run_id is None else f"no run {request.run_id!r}"
    of = f" of {', '.join(given)}" if given else ""
    raise NotFound(f"{run}{of}; GET /models lists the runs", labels)


def checked_selection(
    run: Mapping[str, Any], levels: pl.DataFrame, level: int | None, metric: str | None
) -> Selection:
    """A selection in a run whose rows of `run_metrics.headline_metrics` are `levels`.

    The default level is the deepest level with stable accuracy (`level_rows.default_level`).

    Raises:
        NotFound: a level or metric that the run does not have.
        NothingToShow: a run without any metric.
    """
    known_levels = sorted(set(levels["level"]))
    if not known_levels:
        raise NothingToShow(
            f"run {run['run_id']} has no metrics; `prunelake analyse`, then publish"
        )
    if level is not None and level not in known_levels:
        raise NotFound(f"run {run['run_id']} has no level {level}", map(str, known_levels))
    known_metrics = sorted(set(levels.drop_nulls("value")["metric"]))
    if metric is not None and metric not in known_metrics:
        raise NotFound(f"run {run['run_id']} has no metric {metric!r}", known_metrics)
    if level is None:
        level = default_level(levels) or 0
    return Selection(run, level, metric or DEFAULT_METRIC, LevelNames.of(levels))
