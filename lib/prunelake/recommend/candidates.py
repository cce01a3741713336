"""Candidates for a recommendation: a removal order with the evidence for each of its levels."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from prunelake.recommend.budget import CostBudget
from prunelake.recommend.request import EXPLANATION_CRITERIA
from prunelake.spec import FrozenValue

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
    is_measured: bool = Field(
        description="Whether the run has the metric here; a level that was not explained fails "
        "no criterion of explanations."
    )
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

    @property
    def measured_failures(self) -> list[Check]:
        """The criteria that are measured and not met."""
        return [check for check in self.failures if check.is_measured]

    @property
    def unexplained_tasks(self) -> set[str]:
        """The tasks without explanations here, if explanations are among the criteria."""
        return {
            check.task
            for check in self.checks
            if check.criterion in EXPLANATION_CRITERIA and not check.is_measured
        }


GapKind = Literal["evaluation", "explanations", "cost"]


class Gap(FrozenValue):
    """Evidence that is missing at some levels of a removal order."""

    kind: GapKind = Field(
        description="Levels were not evaluated on tasks, not explained on tasks, or lack costs."
    )
    names: tuple[str, ...] = Field(description="The tasks, or the costs in the budget.")
    levels: tuple[int, ...]


NoLevelReason = Literal["task_missing", "not_tested", "cost_unknown", "over_budget", "quality"]


class Candidate(FrozenValue):
    """A removal order in one number format, with its deepest level that passes.

    A candidate of a comparison, which is a model of its own, has a label and one level. `level` is
    None if no level passes, and `reason` says why: `task_missing` (not evaluated on every task),
    `cost_unknown` (a cost in the budget was not measured at a level that could pass), `not_tested`
    (no level within the budget was evaluated and explained on every task), `over_budget` (no level
    meets the budget) or `quality` (no level within the budget meets all criteria).
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
    gaps: tuple[Gap, ...] = Field(
        description="The evidence that levels lack which could still be recommended."
    )
    closed_by: tuple[str, ...] = Field(description="The commands that add this evidence.")

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
