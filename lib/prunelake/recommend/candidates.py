"""Candidates for a recommendation: a removal order with the evidence for each of its levels."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl
from pydantic import Field

from prunelake.command_line import SettlingSweep, settling_sweep
from prunelake.lake.read import is_sweep
from prunelake.recommend.budget import COUNTED_COSTS, CostBudget
from prunelake.spec import FrozenValue, SweepSpec

CostValues = Mapping[str, float | None]


class Check(FrozenValue):
    """One criterion of one run at one level: a row of `criteria` at the request's error rate."""

    task: str
    run_id: str
    criterion: str
    metric: str
    method: str | None
    operator: str | None
    variant: str | None
    unpruned_value: float | None
    value: float | None
    loss: float | None = Field(
        description="How much worse the value is than the unpruned value; negative if it is better."
    )
    loss_bound: float | None = Field(
        description="The upper end of the one-sided interval of the loss, at the error rate."
    )
    margin: float
    is_met: bool = Field(description="Whether loss_bound is below the margin.")
    n: int | None = Field(description="The number of examples with values here and at level 0.")
    n_needed: int | None = Field(
        description="The examples that would meet the criterion with a probability of 80 % if "
        "this loss is the true loss."
    )
    note: str | None = Field(description="Why a value is unknown.")


class Level(FrozenValue):
    """One level of a candidate over all tasks."""

    level: int
    costs: dict[str, float | None] = Field(
        description="removed_layers, removed_share, and the known ratios of the view efficiency."
    )
    is_within_budget: bool
    is_tested: bool = Field(description="Whether every task has values here for each criterion.")
    is_met: bool = Field(description="Whether every criterion is met on every task.")
    is_reached: bool = Field(
        description="Whether this level and every shallower tested level are met."
    )
    checks: tuple[Check, ...]

    @property
    def failures(self) -> list[Check]:
        """The criteria that are not met."""
        return [check for check in self.checks if not check.is_met]


NoLevelReason = Literal["task_missing", "not_tested", "cost_unknown", "over_budget", "quality"]


class Candidate(FrozenValue):
    """A removal order in one number format, with its deepest level that passes.

    A candidate of a comparison, which is a model of its own, has a label and one level. `level` is
    None if no level passes, and `reason` says why: `task_missing` (not evaluated on every task),
    `not_tested` (no level within the budget was explained on every task), `cost_unknown` (a cost in
    the budget was not measured), `over_budget` (no level meets the budget) or `quality` (no level
    within the budget meets all criteria).
    """

    strategy: str
    label: str | None = Field(
        default=None, description="The label of a candidate of comparisons; null: a removal order."
    )
    weight_bytes: int | None = Field(
        default=None, description="The size of its weights; null if unknown, and for an order."
    )
    dtype: str | None
    run_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    removal_order: tuple[int, ...]
    layer_count: int | None = None
    levels: tuple[Level, ...]
    level: int | None
    reason: NoLevelReason | None
    settled_by: tuple[str, ...] = Field(
        description="The sweeps that would show whether the first failed level passes, one for "
        "each task; empty if more examples would not make it pass."
    )
    shortages: tuple[str, ...] = Field(
        description="A sentence for each of these tasks that has too few rows."
    )

    def level_at(self, level: int) -> Level:
        """The evidence at a level."""
        return next(candidate for candidate in self.levels if candidate.level == level)

    @property
    def is_eligible(self) -> bool:
        """Whether this candidate could be recommended: a tested level is within the budget."""
        return any(level.is_tested and level.is_within_budget for level in self.levels)

    @property
    def first_failed_level(self) -> Level | None:
        """The first tested level that fails a criterion; deeper levels do not count."""
        return next((level for level in self.levels if level.is_tested and not level.is_met), None)

    def nearest_level(self, budget: CostBudget) -> Level | None:
        """The level closest to the budget; None if no level has all costs in the budget."""

        def distance(level: Level) -> float:
            return sum(
                term.distance(cost)
                for term in budget.terms
                if (cost := level.costs.get(term.column)) is not None and not term.is_met(cost)
            )

        known = [
            level
            for level in self.levels
            if all(level.costs.get(term.column) is not None for term in budget.terms)
        ]
        return min(known, key=distance, default=None)


def build_candidate(
    runs: Sequence[Mapping[str, Any]],
    tasks: Sequence[str],
    checks: pl.DataFrame,
    costs: Mapping[str, Mapping[int, CostValues]],
    budget: CostBudget,
) -> Candidate:
    """The candidate of the runs of one removal order: rows of `runs`, one for each task.

    Rows with a label are comparisons, of which this candidate counts only. `checks` are rows of
    `criteria` under one calibrator, and may include other runs. `costs` are the measured costs by
    run id and level.
    """
    first = runs[0]
    label = first["label"]
    run_ids = tuple(run["run_id"] for run in runs)
    layer_count = first["layer_count"] or None
    measured: dict[int, CostValues] = {}
    for run_id in run_ids:
        measured |= costs.get(run_id, {})
    has_all_tasks = {run["task"] for run in runs} == set(tasks)
    own_checks = checks.filter(pl.col("run_id").is_in(run_ids))
    if label is not None:
        # Its level may have another number in the comparison of another task.
        own_checks = own_checks.filter(label=label).with_columns(pl.col("level").min())
    levels = []
    for (level_value,), rows in own_checks.group_by("level", maintain_order=True):
        level = int(level_value)
        is_complete = has_all_tasks and rows["run_id"].n_unique() == len(runs)
        counted = _counted_costs(level, layer_count)
        if label is not None:
            counted = {"weight_share": first["weight_share"]}
        level_costs = counted | dict(measured.get(level, {}))
        levels.append(
            Level(
                level=level,
                costs=level_costs,
                is_within_budget=budget.is_met(level_costs),
                is_tested=is_complete and all(rows["is_level_tested"]),
                is_met=is_complete and all(rows["is_level_met"]),
                is_reached=is_complete
                and all(rows["is_reached" if label is None else "is_level_met"]),
                checks=tuple(
                    Check(**{name: row[name] for name in Check.model_fields})
                    for row in rows.sort("task", "criterion").iter_rows(named=True)
                ),
            )
        )
    levels.sort(key=lambda item: item.level)
    first_failed = next((level for level in levels if level.is_tested and not level.is_met), None)
    passing = [item.level for item in levels if item.is_reached and item.is_within_budget]
    settling = _settling_sweeps(runs, first_failed.failures) if first_failed else []
    return Candidate(
        strategy=first["strategy"],
        label=label,
        weight_bytes=first["weight_bytes"],
        dtype=first["dtype"] if label is None else first["candidate_dtype"],
        run_ids=run_ids,
        tasks=tuple(run["task"] for run in runs),
        removal_order=tuple(first["removal_order"] or ()),
        layer_count=layer_count,
        levels=tuple(levels),
        level=max(passing, default=None),
        reason=None if passing else _no_level_reason(levels, has_all_tasks, budget),
        settled_by=tuple(sweep.command for sweep in settling if sweep.command),
        shortages=tuple(
            f"{sweep.shortage} would show whether level {first_failed.level} passes."
            for sweep in settling
            if first_failed and sweep.shortage
        ),
    )


def _settling_sweeps(
    runs: Sequence[Mapping[str, Any]], failures: Sequence[Check]
) -> list[SettlingSweep]:
    """The sweeps that would show whether a level passes these failed checks."""
    if any(check.n_needed is None for check in failures):
        return []
    sweeps = []
    for run in runs:
        open_checks = [check for check in failures if check.run_id == run["run_id"]]
        if not open_checks or not is_sweep(run["identity"]):
            continue
        rows, explained_rows = (
            max(
                (check.n_needed or 0 for check in open_checks if bool(check.method) == x), default=0
            )
            for x in (False, True)
        )
        sweeps.append(
            settling_sweep(
                SweepSpec.model_validate_json(run["spec"]),
                run["example_count"],
                rows,
                explained_rows,
            )
        )
    return sweeps


def _no_level_reason(
    levels: Sequence[Level], has_all_tasks: bool, budget: CostBudget
) -> NoLevelReason:
    if not has_all_tasks:
        return "task_missing"
    columns = {term.column for term in budget.terms} - set(COUNTED_COSTS)
    if not all(any(level.costs.get(name) is not None for level in levels) for name in columns):
        return "cost_unknown"
    if not any(level.is_within_budget for level in levels):
        return "over_budget"
    is_tested = any(level.is_tested and level.is_within_budget for level in levels)
    return "quality" if is_tested else "not_tested"


def _counted_costs(level: int, layer_count: int | None) -> dict[str, float | None]:
    share = level / layer_count if layer_count else None
    return {"removed_layers": float(level), "removed_share": share}
