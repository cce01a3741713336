"""Choose the run of each task that a gate checks. The choice never depends on results."""

from collections.abc import Mapping

import polars as pl

from prunelake.errors import InvalidSpec
from prunelake.gate.gate_file import Gate
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.recommend.evidence import latest_runs, representative_runs
from prunelake.recommend.request import EXPLANATION_CRITERIA
from prunelake.schema.metrics import AGREEMENT_METRICS, AOPC_METRICS


def choose_runs(connection: Connection, gate: Gate) -> Mapping[str, str]:
    """The run id of each task of the gate.

    The run of a model is its run with the most explained examples (if a criterion needs
    explanations), then with the most examples, then the latest.

    Raises:
        InvalidSpec: no run, or runs of several removal orders, for a task; the message lists the
            choices.
        NotFound, NothingToShow: as `recommend.evidence.latest_runs`.
    """
    runs = _named_runs(connection, gate) if gate.runs else _runs_of_model(connection, gate)
    chosen: dict[str, str] = {}
    for task in gate.all_tasks:
        of_task = runs.filter(task=task)
        if of_task.is_empty():
            known = ", ".join(sorted(set(runs["task"]))) or "none"
            where = "the runs of the gate" if gate.runs else f"the runs of {gate.model}"
            raise InvalidSpec(f"task {task!r}: not among {where}, which have: {known}")
        with_levels = of_task.filter(
            pl.col("levels").list.set_intersection([*gate.levels]).list.len() == len(gate.levels)
        )
        if with_levels.is_empty():
            known = "; ".join(
                f"{run_id} has {', '.join(map(str, levels))}"
                for run_id, levels in of_task.select("run_id", "levels").iter_rows()
            )
            raise InvalidSpec(
                f"levels {', '.join(map(str, gate.levels))}: no run on {task} has all of them; "
                f"run {known}"
            )
        if with_levels.height > 1:
            raise InvalidSpec(f"task {task!r}: {_ambiguity(with_levels)}; choose one")
        chosen[task] = with_levels["run_id"][0]
    return chosen


def _named_runs(connection: Connection, gate: Gate) -> pl.DataFrame:
    runs = BoundQuery("from runs order by run_id").rows(connection)
    for run_id in gate.runs:
        if run_id not in set(runs["run_id"]):
            known = ", ".join(runs["run_id"].head(9)) or "no run"
            raise InvalidSpec(f"run {run_id!r}: the lake has no such complete run; it has {known}")
    named = runs.filter(pl.col("run_id").is_in(gate.runs))
    for run_id, task in named.select("run_id", "task").iter_rows():
        if task not in gate.all_tasks:
            raise InvalidSpec(
                f"run {run_id} is on {task}, which no criterion has; the criteria have "
                f"{', '.join(gate.all_tasks)}"
            )
    return named


def _runs_of_model(connection: Connection, gate: Gate) -> pl.DataFrame:
    assert gate.model is not None
    runs = latest_runs(connection, gate.model)
    for name, value in (
        ("strategy", gate.strategy and gate.strategy.label),
        ("dtype", gate.dtype),
    ):
        if value is not None:
            known = sorted(set(runs[name]))
            runs = runs.filter(pl.col(name) == value)
            if runs.is_empty():
                raise InvalidSpec(f"{name} {value!r}: {gate.model} has {', '.join(known)}")
    is_explained = any(
        criterion.metric in (*AOPC_METRICS, *AGREEMENT_METRICS) for criterion in gate.criteria
    )
    return representative_runs(connection, runs, EXPLANATION_CRITERIA if is_explained else ())


def _ambiguity(runs: pl.DataFrame) -> str:
    described = (
        f"{run_id} (strategy {strategy}, dtype {dtype})"
        for run_id, strategy, dtype in runs.select("run_id", "strategy", "dtype").iter_rows()
    )
    return f"several runs, {' and '.join(described)}"
