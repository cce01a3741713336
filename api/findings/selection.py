"""The run, level and metric of a chart or a finding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import polars as pl

from prunelake.errors import NotFound, NothingToShow
from prunelake.lake.sql.bound_query import BoundQuery

from ..queries import run_metrics, runs
from ..queries.snapshots.snapshot import ReadRows, Snapshot
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
class RunChoices:
    """A run, and the levels and metrics that a reader may choose, ascending."""

    run: Mapping[str, Any]
    levels: Sequence[int]
    metrics: Sequence[str]
    default_level: int
    names: LevelNames

    @classmethod
    def of(cls, run: Mapping[str, Any], levels: pl.DataFrame) -> Self:
        """The choices in a run whose rows of `run_metrics.headline_metrics` are `levels`.

        The default level is the deepest level with stable accuracy (`level_rows.default_level`).

        Raises:
            NothingToShow: a run without any metric.
        """
        if levels.is_empty():
            raise NothingToShow(
                f"run {run['run_id']} has no metrics; `prunelake analyse`, then publish"
            )
        return cls(
            run,
            sorted(set(levels["level"])),
            sorted(set(levels.drop_nulls("value")["metric"])),
            default_level(levels) or 0,
            LevelNames.of(levels),
        )

    def selection(self, level: int | None, metric: str | None) -> Selection:
        """The selection of a level and a metric; None means the default.

        Raises:
            NotFound: a level or metric that the run does not have.
        """
        run_id = self.run["run_id"]
        if level is not None and level not in self.levels:
            raise NotFound(f"run {run_id} has no level {level}", map(str, self.levels))
        if metric is not None and metric not in self.metrics:
            raise NotFound(f"run {run_id} has no metric {metric!r}", self.metrics)
        chosen = self.default_level if level is None else level
        return Selection(self.run, chosen, metric or DEFAULT_METRIC, self.names)


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
        NotFound, NothingToShow: as `find_run`, `RunChoices.of` and `RunChoices.selection`.
    """

    def choices() -> RunChoices:
        run = find_run(snapshot.kept_rows, request)
        return RunChoices.of(run, snapshot.kept_rows(_levels_of(run)))

    key = (RunChoices, request.run_id, request.model, request.task, request.strategy)
    kept: RunChoices = snapshot.kept_results.get(key, choices)
    return kept.selection(request.level, request.metric)


def select_with_levels(read: ReadRows, request: SelectionRequest) -> tuple[Selection, pl.DataFrame]:
    """The selection, and the rows of `run_metrics.headline_metrics` of its run.

    Raises:
        NotFound, NothingToShow: as `find_run`, `RunChoices.of` and `RunChoices.selection`.
    """
    run = find_run(read, request)
    levels = read(_levels_of(run))
    return RunChoices.of(run, levels).selection(request.level, request.metric), levels


def _levels_of(run: Mapping[str, Any]) -> BoundQuery:
    return run_metrics.headline_metrics([run["run_id"]])


def find_run(read: ReadRows, request: SelectionRequest) -> dict[str, Any]:
    """The latest run that matches the run id, model, task and strategy of a request.

    Raises:
        NotFound: no run matches; the choices are the runs of the lake.
    """
    matching = read(runs.latest_run(request.run_id, request.model, request.task, request.strategy))
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
