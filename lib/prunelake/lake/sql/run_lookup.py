"""Look up one removal level in a lake: its removed layers, its metrics and its cost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from prunelake.errors import InvalidSpec, LakeError
from prunelake.identity import run_kind
from prunelake.lake.read import read_run_columns
from prunelake.lake.sql.views import query
from prunelake.lake.storage.location import Location
from prunelake.schema.table import TableRow
from prunelake.spec import Dtype, removed_parts, unquantised_part

RUN_COLUMNS = [
    *("run_id", "task", "dtype", "levels", "removal_order", "layer_count"),
    *("example_count", "spec", "identity"),
]
"""The columns of `runs` that make a `PastRun`."""


@dataclass(frozen=True)
class PastRun:
    """A run of the lake; `removal_order` lists its layers in the order of their removal.

    `dtype` is the number format in which a quantised model computes. `spec` is the JSON of the
    spec of a sweep, None for an import.
    """

    run_id: str
    task: str
    dtype: Dtype
    levels: tuple[int, ...]
    removal_order: tuple[int, ...]
    layer_count: int | None = None
    example_count: int = 0
    spec: str | None = None

    def removed_layers(self, level: int) -> frozenset[int]:
        """The layers that this run removes at a level."""
        return frozenset(removed_parts(self.removal_order, level, self.layer_count))


def past_runs(lake: Location, revision: str, strategy: str) -> list[PastRun]:
    """The runs of one model revision by one strategy (its label), ordered by task and id.

    Empty if there is no lake yet.

    Raises:
        WrongFormat: a run of another format version.
        CorruptFile: a `runs` file that cannot be read or has another schema.
    """
    rows = read_run_columns(lake, [*RUN_COLUMNS, "revision", "strategy"])
    rows = rows.unique("run_id").sort("task", "run_id")
    of_model = rows.filter(pl.col("revision") == revision, pl.col("strategy") == strategy)
    return [_past_run(row) for row in of_model.iter_rows(named=True) if row["removal_order"]]


def find_run(lake: Location, run_id: str) -> PastRun:
    """The run with this id.

    Raises:
        LakeError: the lake has no such run.
        WrongFormat, CorruptFile: as `past_runs`.
    """
    rows = read_run_columns(lake, RUN_COLUMNS)
    for row in rows.filter(run_id=run_id).iter_rows(named=True):
        return _past_run(row)
    known = ", ".join(sorted(set(rows["run_id"]))) or "none"
    raise LakeError(f"no complete run {run_id!r} in {lake}; it has: {known}")


def _past_run(row: TableRow) -> PastRun:
    return PastRun(
        row["run_id"],
        row["task"],
        unquantised_part(row["dtype"]),
        tuple(row["levels"]),
        tuple(row["removal_order"] or ()),
        row["layer_count"],
        row["example_count"],
        row["spec"] if run_kind(row["identity"]) == "sweep" else None,
    )


def runs_removing_same_layers(
    runs: Sequence[PastRun], level: int, chosen: str | None = None
) -> list[PastRun]:
    """The runs that remove the same layers at a level, the chosen run first.

    Raises:
        InvalidSpec: the chosen run is not among `runs`. Or no run is chosen, and the runs remove
            different layers, for example because of another calibration text or number format.
    """
    if chosen is not None:
        first = next((run for run in runs if run.run_id == chosen), None)
        if first is None:
            choices = ", ".join(run.run_id for run in runs) or "none"
            raise InvalidSpec(
                f"run {chosen!r} does not belong to this model, revision and strategy; "
                f"the lake has: {choices}"
            )
        layers = first.removed_layers(level)
        others = (run for run in runs if run != first and run.removed_layers(level) == layers)
        return [first, *others]
    by_layers = {run.removed_layers(level): run for run in runs}
    if len(by_layers) > 1:
        described = "; ".join(
            f"run {run.run_id} ({run.task}, {run.dtype}) {sorted(layers)}"
            for layers, run in by_layers.items()
        )
        raise InvalidSpec(
            f"the lake's runs remove different layers at level {level}: {described}; choose one "
            "with --run"
        )
    return [*runs]


def shared_dtype(runs: Sequence[PastRun]) -> Dtype:
    """The number format of these runs.

    Raises:
        InvalidSpec: the runs have different number formats.
    """
    dtypes = sorted({run.dtype for run in runs})
    if len(dtypes) > 1:
        raise InvalidSpec(
            f"the lake has runs in {' and in '.join(dtypes)}: choose one with --dtype"
        )
    return dtypes[0]


def level_metrics(
    lake: Location, run_ids: Collection[str], level: int, metrics: Collection[str]
) -> pl.DataFrame:
    """Metrics of these runs at a level, compared with level 0: rows of `headline_metrics`.

    A metric that a run has not measured has no row. A verdict is `worse` if the metric is shown to
    be worse while accuracy is undecided (`prunelake.schema.verdicts`).

    Raises:
        LakeError: as `views.query`.
    """
    return query(
        lake,
        """
        select * replace (shown_verdict as verdict)
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


def level_text(lake: Location, run_ids: Collection[str], level: int) -> TableRow | None:
    """The first measured text of these runs at a level, beside that of level 0; None without texts.

    A row of `paired_texts` with the `prompt`.

    Raises:
        LakeError: as `views.query`.
    """
    rows = query(
        lake,
        """
        select paired_texts.*, examples.prompt
        from paired_texts
        inner join examples
            on
                paired_texts.run_id = examples.run_id
                and paired_texts.example_id = examples.example_id
        where list_contains($run_ids, paired_texts.run_id) and paired_texts.level = $level
        order by examples.position, paired_texts.run_id
        limit 1
        """,
        run_ids=list(run_ids),
        level=level,
    )
    return None if rows.is_empty() else rows.row(0, named=True)


def level_costs(lake: Location, run_ids: Collection[str], level: int) -> pl.DataFrame:
    """The cost of a level of these runs: one row for each profile.

    The columns are those of the view `efficiency`. A profile that several runs share appears once.

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
