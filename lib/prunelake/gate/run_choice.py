"""Choose the run of each task that a gate checks. The choice never depends on results."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from prunelake.comparison_spec import COMPARISON_STRATEGY
from prunelake.errors import InvalidSpec
from prunelake.gate.comparison_choice import matching_comparisons
from prunelake.gate.gate_file import Gate
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.recommend.evidence import latest_runs, representative_runs, with_other_levels
from prunelake.recommend.request import EXPLANATION_CRITERIA
from prunelake.spec import task_name


class Candidate(NamedTuple):
    """A candidate in a run: its level, and its label in tables."""

    level: int
    label: str


def choose_runs(connection: Connection, gate: Gate) -> Mapping[str, str]:
    """The run id of each task of the gate, from the runs in the lake.

    Among the runs of a model, the run with the most explained examples counts (if a criterion needs
    explanations), then the run with the most examples, then the latest.

    Raises:
        InvalidSpec: no run, or runs of several removal orders, for a task; the message lists the
            choices.
        NotFound, NothingToShow: as `recommend.evidence.latest_runs`.
    """
    if gate.runs:
        runs = _named_runs(connection, gate)
    elif gate.model:
        runs = _runs_of_model(connection, gate)
    else:
        runs = _representative(connection, gate, matching_comparisons(connection, gate))
    chosen: dict[str, str] = {}
    for task in gate.all_tasks:
        of_task = runs.filter(task=task_name(task))
        if of_task.is_empty():
            known = ", ".join(sorted(set(runs["task"]))) or "none"
            raise InvalidSpec(
                f"task {task!r}: {_source(gate)} have no such task; they have {known}"
            )
        if of_task.height > 1:
            described = " and ".join(
                f"{run_id} (strategy {strategy}, dtype {dtype})"
                for run_id, strategy, dtype in of_task.select(
                    "run_id", "strategy", "dtype"
                ).iter_rows()
            )
            raise InvalidSpec(f"task {task!r}: several runs, {described}; choose one")
        chosen[task] = of_task["run_id"][0]
    return chosen


def candidates_of(connection: Connection, gate: Gate, run_id: str) -> list[Candidate]:
    """The candidates of the gate in a run.

    Raises:
        InvalidSpec: the run has no such candidate or level; the message lists the choices.
    """
    levels = BoundQuery(
        "from levels where run_id = $run_id and level > 0 order by level", run_id=run_id
    ).records(connection)
    known = {
        row["level"]: row["label"] if row["kind"] == "candidate" else f"level {row['level']}"
        for row in levels
    }
    numbers = {row["label"]: row["level"] for row in levels}
    is_comparison = any(row["kind"] == "candidate" for row in levels)
    if not gate.levels and not gate.candidates:
        if is_comparison:
            return [Candidate(level, label) for level, label in known.items()]
        raise InvalidSpec(f"run {run_id} is a removal sweep: name levels among {_listed(known)}")
    for label in gate.candidate_names:
        if label not in numbers or not is_comparison:
            choices = ", ".join(known.values()) or "none"
            raise InvalidSpec(
                f"candidate {label!r}: run {run_id} has no such candidate; it has {choices}"
            )
    wanted = gate.levels or [numbers[label] for label in gate.candidate_names]
    for level in wanted:
        if level not in known:
            raise InvalidSpec(f"level {level}: run {run_id} has the levels {_listed(known)}")
    return [Candidate(level, known[level]) for level in wanted]


def _named_runs(connection: Connection, gate: Gate) -> pl.DataFrame:
    runs = BoundQuery("from runs order by run_id").rows(connection)
    for run_id in gate.runs:
        if run_id not in set(runs["run_id"]):
            known = ", ".join(runs["run_id"].head(9)) or "no run"
            raise InvalidSpec(f"run {run_id!r}: the lake has no such complete run; it has {known}")
    named = runs.filter(pl.col("run_id").is_in(gate.runs))
    tasks = [*map(task_name, gate.all_tasks)]
    for run_id, task in named.select("run_id", "task").iter_rows():
        if task not in tasks:
            raise InvalidSpec(
                f"run {run_id} is on {task}, which no criterion has; the criteria have "
                f"{', '.join(tasks)}"
            )
    return named


def _runs_of_model(connection: Connection, gate: Gate) -> pl.DataFrame:
    assert gate.model is not None
    runs = with_other_levels(latest_runs(connection, gate.model))
    runs = runs.filter(pl.col("strategy") != COMPARISON_STRATEGY)
    for name, value in (
        ("strategy", gate.strategy and gate.strategy.label),
        ("dtype", gate.dtype),
    ):
        if value is not None:
            known = sorted(set(runs[name]))
            runs = runs.filter(pl.col(name) == value)
            if runs.is_empty():
                raise InvalidSpec(f"{name} {value!r}: {gate.model} has {', '.join(known)}")
    with_levels = runs.filter(
        pl.col("levels").list.set_intersection([*gate.levels]).list.len() == len(gate.levels)
    )
    if with_levels.is_empty():
        known_levels = runs["levels"].explode().unique().sort()
        raise InvalidSpec(
            f"levels {_listed(gate.levels)}: no run of {gate.model} has all of them; its runs have "
            f"{_listed(known_levels)}"
        )
    return _representative(connection, gate, with_levels)


def _representative(connection: Connection, gate: Gate, runs: pl.DataFrame) -> pl.DataFrame:
    is_explained = any(criterion.needs_explanations for criterion in gate.criteria)
    return representative_runs(connection, runs, EXPLANATION_CRITERIA if is_explained else ())


def _source(gate: Gate) -> str:
    if gate.runs:
        return "the runs of the gate"
    return f"the runs of {gate.model or (gate.baseline and gate.baseline.name)}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
