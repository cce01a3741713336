"""A removal order as something to take: its evidence at every level, and how deep it may go."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl
from pydantic import Field

from prunelake.recommend.budget import COUNTED_COSTS, CostBudget
from prunelake.spec import FrozenValue

CostValues = Mapping[str, float | None]


class Check(FrozenValue):
    """One criterion of one run at one level: a row of `criteria`, which says what each part is."""

    task: str
    run_id: str
    criterion: str
    metric: str
    method: str | None
    operator: str | None
    variant: str | None
    unpruned_value: float | None
    value: float | None
    loss: float | None = Field(description="How much worse; negative where it is better.")
    loss_bound: float | None = Field(
        description="The upper end of the one-sided 95 % interval of the loss."
    )
    margin: float
    is_met: bool = Field(description="Whether loss_bound lies below the margin.")
    n: int | None = Field(description="Examples known here and at level 0.")
    n_needed: int | None = Field(
        description="About how many would show it, were the loss to stay as it is."
    )
    note: str | None = Field(description="Why something is not known.")


class Level(FrozenValue):
    """One level of a candidate over all tasks."""

    level: int
    costs: dict[str, float | None] = Field(
        description="removed_layers, removed_share, and the ratios of `efficiency` that are known."
    )
    is_within_budget: bool
    is_tested: bool = Field(description="Evaluated and explained on every task.")
    is_met: bool = Field(description="No criterion fails on any task.")
    is_reached: bool = Field(description="Met, as is every shallower level that was tested.")
    checks: tuple[Check, ...]

    @property
    def failures(self) -> list[Check]:
        """The criteria that are not met."""
        return [check for check in self.checks if not check.is_met]


NoLevelReason = Literal["task_missing", "not_tested", "cost_unknown", "over_budget", "quality"]


class Candidate(FrozenValue):
    """One removal order in one number format, and how deep it may go.

    `level` is None where no level can be recommended, for this `reason`: it was not evaluated on
    every task; no level within the budget was explained on every task; a cost of the budget was not
    measured; no level meets the budget; or none that does passes the criteria.
    """

    strategy: str
    dtype: str | None
    run_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    removal_order: tuple[int, ...]
    levels: tuple[Level, ...]
    level: int | None
    reason: NoLevelReason | None

    def level_at(self, level: int) -> Level:
        """The evidence at a level."""
        return next(one for one in self.levels if one.level == level)

    @property
    def first_failed_level(self) -> Level | None:
        """The first tested level that fails a criterion; deeper ones are not tested after it."""
        return next((one for one in self.levels if one.is_tested and not one.is_met), None)

    def nearest_level(self, budget: CostBudget) -> Level | None:
        """The level that comes closest to the budget; None where a cost of it is not known."""

        def distance(one: Level) -> float:
            return sum(
                term.distance(value)
                for term in budget.terms
                if (value := one.costs.get(term.column)) is not None and not term.is_met(value)
            )

        known = [
            one
            for one in self.levels
            if all(one.costs.get(term.column) is not None for term in budget.terms)
        ]
        return min(known, key=distance, default=None)


def build_candidate(
    runs: Sequence[Mapping[str, Any]],
    tasks: Sequence[str],
    checks: pl.DataFrame,
    costs: Mapping[str, Mapping[int, CostValues]],
    budget: CostBudget,
) -> Candidate:
    """What the runs of one removal order, one a task, say together.

    `checks` are rows of `criteria` with one calibrator, of whatever runs; `costs` are the measured
    ones by run and level.
    """
    first = runs[0]
    run_ids = tuple(run["run_id"] for run in runs)
    layer_count = first["layer_count"] or None
    measured: dict[int, CostValues] = {}
    for run_id in run_ids:
        measured |= costs.get(run_id, {})
    is_whole = {run["task"] for run in runs} == set(tasks)
    levels = []
    for (level,), rows in checks.filter(pl.col("run_id").is_in(run_ids)).group_by(
        "level", maintain_order=True
    ):
        number = int(level)
        is_everywhere = is_whole and rows["run_id"].n_unique() == len(runs)
        its_costs = _counted_costs(number, layer_count) | dict(measured.get(number, {}))
        levels.append(
            Level(
                level=number,
                costs=its_costs,
                is_within_budget=budget.is_met(its_costs),
                is_tested=is_everywhere and all(rows["is_level_tested"]),
                is_met=is_everywhere and all(rows["is_level_met"]),
                is_reached=is_everywhere and all(rows["is_reached"]),
                checks=tuple(
                    Check(**{name: row[name] for name in Check.model_fields})
                    for row in rows.sort("task", "criterion").iter_rows(named=True)
                ),
            )
        )
    levels.sort(key=lambda one: one.level)
    passing = [one.level for one in levels if one.is_reached and one.is_within_budget]
    return Candidate(
        strategy=first["strategy"],
        dtype=first["dtype"],
        run_ids=run_ids,
        tasks=tuple(run["task"] for run in runs),
        removal_order=tuple(first["removal_order"] or ()),
        levels=tuple(levels),
        level=max(passing, default=None),
        reason=None if passing else _reason(levels, is_whole, budget),
    )


def _reason(levels: Sequence[Level], is_whole: bool, budget: CostBudget) -> NoLevelReason:
    if not is_whole:
        return "task_missing"
    columns = {term.column for term in budget.terms} - set(COUNTED_COSTS)
    if not all(any(one.costs.get(name) is not None for one in levels) for name in columns):
        return "cost_unknown"
    if not any(one.is_within_budget for one in levels):
        return "over_budget"
    is_tested = any(one.is_tested and one.is_within_budget for one in levels)
    return "quality" if is_tested else "not_tested"


def _counted_costs(level: int, layer_count: int | None) -> dict[str, float | None]:
    share = level / layer_count if layer_count else None
    return {"removed_layers": float(level), "removed_share": share}
