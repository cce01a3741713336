"""What a lake says of one removal level: which layers it lacks, and what was measured there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.errors import InvalidSpec
from prunelake.lake.read import read_run_columns
from prunelake.lake.storage import Location
from prunelake.lake.views import query
from prunelake.spec import Dtype


@dataclass(frozen=True)
class PastRun:
    """A run of the lake; `removal_order` has all layers, first removed first."""

    run_id: str
    task: str
    dtype: Dtype
    levels: tuple[int, ...]
    removal_order: tuple[int, ...]

    def removed_layers(self, level: int) -> frozenset[int]:
        """The layers that this run removes at a level."""
        return frozenset(self.removal_order[:level])


def past_runs(lake: Location, revision: str, strategy: str) -> list[PastRun]:
    """The runs of one revision of a model by one strategy (its label), by task and id.

    None where there is no lake yet.

    Raises:
        CorruptFile: a `runs` file that cannot be read or has another schema.
    """
    columns = ["run_id", "task", "dtype", "levels", "removal_order", "revision", "strategy"]
    rows = read_run_columns(lake, columns).unique("run_id").sort("task", "run_id")
    return [
        PastRun(run_id, task, dtype, tuple(levels), tuple(order))
        for run_id, task, dtype, levels, order, *its in rows.iter_rows()
        if its == [revision, strategy] and order
    ]


def runs_removing_same_layers(
    runs: Sequence[PastRun], level: int, chosen: str | None = None
) -> list[PastRun]:
    """The runs that remove the same layers at a level, the chosen one first.

    Raises:
        InvalidSpec: no such run, or none is chosen and they remove different layers, as runs with
            other calibration text or in another number format may.
    """
    if chosen is not None:
        first = next((run for run in runs if run.run_id == chosen), None)
        if first is None:
            known = ", ".join(run.run_id for run in runs) or "none"
            raise InvalidSpec(
                f"run {chosen!r} is not one of this model, revision and strategy; "
                f"the lake's are: {known}"
            )
        others = [run for run in runs if run != first]
        return [
            first,
            *(run for run in others if run.removed_layers(level) == first.removed_layers(level)),
        ]
    by_layers = {run.removed_layers(level): run for run in runs}
    if len(by_layers) > 1:
        told = "; ".join(
            f"run {run.run_id} ({run.task}, {run.dtype}) {sorted(layers)}"
            for layers, run in by_layers.items()
        )
        raise InvalidSpec(
            f"the lake's runs remove different layers at level {level}: {told}; choose one by --run"
        )
    return [*runs]


def shared_dtype(runs: Sequence[PastRun]) -> Dtype:
    """The number format that all of some runs share.

    Raises:
        InvalidSpec: they have several.
    """
    dtypes = sorted({run.dtype for run in runs})
    if len(dtypes) > 1:
        raise InvalidSpec(f"the lake has runs in {' and in '.join(dtypes)}: choose one by --dtype")
    return dtypes[0]


def level_metrics(
    lake: Location, run_ids: Collection[str], level: int, metrics: Collection[str]
) -> pl.DataFrame:
    """Metrics of runs at a level, beside level 0: the rows of the view `headline_metrics`.

    A run that has not measured a metric has no row of it.

    Raises:
        LakeError: as `views.query`.
    """
    return query(
        lake,
        """
        from headline_metrics
        where
            list_contains($run_ids, run_id)
            and level = $level
            and list_contains($metrics, metric)
            and value is not null
        order by task, run_id, metric
        """,
        run_ids=list(run_ids),
        level=level,
        metrics=list(metrics),
    )


def level_costs(lake: Location, run_ids: Collection[str], level: int) -> pl.DataFrame:
    """What a level of runs costs, a row for each device that it was profiled on.

    The columns are those of the view `efficiency`. Runs of one removal order and number format
    share a profile, which is told once.

    Raises:
        LakeError: as `views.query`.
    """
    return query(
        lake,
        """
        from efficiency
        where list_contains($run_ids, run_id) and level = $level
        qualify row_number() over (partition by profile_id order by run_id) = 1
        order by device, dtype, profile_id
        """,
        run_ids=list(run_ids),
        level=level,
    )


def profile_costs(lake: Location, profile_id: str) -> pl.DataFrame:
    """The rows of the view `costs` for one profile, by level.

    Raises:
        LakeError: as `views.query`.
    """
    return query(
        lake, "from costs where profile_id = $profile_id order by level", profile_id=profile_id
    )
