"""Recommend the deepest level that is shown to be no worse than the unpruned model.

The view `criteria` tests every level of a run. This module requires that a level passes on every
task, and compares the removal orders within the budget.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from pydantic import Field

from prunelake.errors import NotFound, NothingToShow
from prunelake.identity import run_kind, sweep_spec
from prunelake.lake.sql.bound_query import Connection
from prunelake.recommend.budget import CostBudget
from prunelake.recommend.candidate_builder import build_candidate
from prunelake.recommend.candidates import Candidate, CostValues, Level
from prunelake.recommend.costs import known_costs
from prunelake.recommend.error_rate import ERROR_RATE, LastLooks, at_error_rate, discordant_counts
from prunelake.recommend.evidence import (
    criteria_checks,
    latest_runs,
    representative_runs,
    with_other_levels,
)
from prunelake.recommend.request import (
    CalibrationMetric,
    Criterion,
    Margins,
    RecommendationRequest,
)
from prunelake.recommend.texts import TextEvidence, text_evidence
from prunelake.spec import FrozenValue, removed_parts


class Answer(FrozenValue):
    """The recommended level among all candidates; `level` is None if no level is recommended.

    `calibrator` is the calibrator of the confidence; None for the model without recalibration.
    """

    calibrator: str | None
    strategy: str | None
    label: str | None = Field(description="The label of a candidate; null for a removal order.")
    weight_bytes: int | None = Field(
        description="The size of its weights; null if unknown, and for a removal order."
    )
    dtype: str | None
    level: int | None
    run_ids: tuple[str, ...] = Field(description="The runs behind the answer, one for each task.")
    removed: tuple[int, ...] = Field(
        description="The layers whose unit is removed, in ascending order."
    )
    costs: dict[str, float | None]
    texts: TextEvidence = TextEvidence()
    candidates: tuple[Candidate, ...]

    @property
    def candidate(self) -> Candidate | None:
        """The candidate whose level is recommended."""
        return next(
            (
                candidate
                for candidate in self.candidates
                if (candidate.run_ids, candidate.label) == (self.run_ids, self.label)
            ),
            None,
        )


class Recommendation(FrozenValue):
    """The answers before and after recalibration, with the terms of the request."""

    model: str
    revision: str
    layer_count: int | None
    tasks: tuple[str, ...]
    budget: str
    margins: Margins
    criteria: tuple[Criterion, ...]
    calibration: CalibrationMetric
    device: str | None = Field(description="The device on which the costs were measured.")
    busy_load: float | None = Field(
        description="The load average of the machine before the costs were measured, if it was "
        "busy: the speeds are then unreliable. Null if it was idle, and for a GPU."
    )
    candidate_count: int = Field(
        description="The number of removal orders and candidates that were compared."
    )
    order_count: int = Field(
        description="The number of them that have a tested level within the budget."
    )
    error_rate: float = Field(description="The error rate of each test: 5 % / order_count.")
    as_it_is: Answer
    recalibrated: Answer


def recommend(connection: Connection, request: RecommendationRequest) -> Recommendation:
    """Recommend the deepest level of the best removal order that passes on every task.

        with connect(lake) as connection:
            recommend(connection, RecommendationRequest(model="SmolLM2-135M"))

    A level passes a criterion if its loss against the unpruned model is below the margin at the
    upper end of the one-sided interval (non-inferiority). The levels of a removal order are tested
    from the shallowest to the first that fails. In such a fixed sequence the probability of
    recommending a level that is worse is at most the error rate of one test (Maurer, Hothorn and
    Lehmacher 1995). All criteria and all tasks must pass, so their number needs no correction
    (Berger 1982). The best of several removal orders is chosen after seeing the results, so the
    error rate of 5 % is divided by their number (Bonferroni). A candidate of a comparison counts as
    a removal order with one level.

    Raises:
        NotFound: no such model, task, calibrator or device, or several models or devices match.
        NothingToShow: no pruned level, no level with examples, or a budget with a cost that was
            never measured.
    """
    runs = with_other_levels(latest_runs(connection, request.model))
    first = runs.row(0, named=True)
    tasks = _require_tasks(runs, request.tasks)
    chosen = representative_runs(
        connection, runs.filter(pl.col("task").is_in(tasks)), request.criteria
    )
    checks = criteria_checks(connection, request, chosen["run_id"].to_list())
    costs = known_costs(connection, request, first["model"], chosen)
    if checks.is_empty():
        raise NothingToShow(f"{first['model']}: no pruned level was evaluated; sweep some levels")

    def answers(checks: pl.DataFrame) -> list[Answer]:
        return [
            _best_answer(calibrator, chosen, tasks, checks, costs.levels, request.budget)
            for calibrator in (None, request.calibrator)
        ]

    as_it_is, recalibrated = answers(checks)
    # An order counts if it was evaluated and meets the budget, independent of its results.
    order_count = max(1, sum(candidate.is_eligible for candidate in as_it_is.candidates))
    error_rate = ERROR_RATE / order_count
    if order_count > 1:
        discordant = discordant_counts(connection, chosen["run_id"].to_list())
        last_looks = LastLooks.read(connection, chosen)
        checks = at_error_rate(checks, discordant, error_rate, last_looks)
        as_it_is, recalibrated = answers(checks)
    as_it_is, recalibrated = (
        answer
        if answer.level is None
        else answer.model_copy(
            update={"texts": text_evidence(connection, answer.run_ids, answer.level, answer.label)}
        )
        for answer in (as_it_is, recalibrated)
    )
    return Recommendation(
        model=first["model"],
        revision=first["revision"],
        layer_count=first["layer_count"] or None,
        tasks=tasks,
        budget=str(request.budget),
        margins=request.margins,
        criteria=request.criteria,
        calibration=request.calibration,
        device=costs.device,
        busy_load=costs.busy_load,
        candidate_count=len(as_it_is.candidates),
        order_count=order_count,
        error_rate=error_rate,
        as_it_is=as_it_is,
        recalibrated=recalibrated,
    )


def _require_tasks(runs: pl.DataFrame, tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks; all tasks of the runs if `tasks` is empty."""
    known = sorted(set(runs["task"]))
    if unknown := sorted(set(tasks) - set(known)):
        raise NotFound(
            f"{runs['model'][0]} was not evaluated on {', '.join(unknown)}; "
            f"the lake has {', '.join(known)}",
            known,
        )
    return tuple(tasks or known)


def _best_answer(
    calibrator: str | None,
    runs: pl.DataFrame,
    tasks: Sequence[str],
    checks: pl.DataFrame,
    costs: Mapping[str, Mapping[int, CostValues]],
    budget: CostBudget,
) -> Answer:
    """The best answer under one calibrator; None stands for the model without recalibration."""
    checks = checks.filter(pl.col("calibrator").eq_missing(pl.lit(calibrator)))
    order = ("strategy", "dtype", "removal_order", "label")
    groups = [group.to_dicts() for _, group in runs.group_by(*order, maintain_order=True)]
    strategies = Counter((group[0]["strategy"], group[0]["label"]) for group in groups)
    specs = {
        run["task"]: sweep_spec(run)
        for run in runs.iter_rows(named=True)
        if run_kind(run["identity"]) == "sweep"
    }
    candidates = tuple(
        build_candidate(
            group,
            tasks,
            checks,
            costs,
            budget,
            specs,
            has_twin=strategies[group[0]["strategy"], group[0]["label"]] > 1,
        )
        for group in groups
    )
    passing = [
        (candidate, candidate.level_at(candidate.level))
        for candidate in candidates
        if candidate.level is not None
    ]
    if not passing:
        empty: dict[str, Any] = dict.fromkeys(
            ("strategy", "label", "weight_bytes", "dtype", "level")
        )
        empty |= {"run_ids": (), "removed": (), "costs": {}}
        return Answer(calibrator=calibrator, candidates=candidates, **empty)
    best, level = min(passing, key=lambda pair: _preference_key(pair[0], pair[1], budget))
    return Answer(
        calibrator=calibrator,
        strategy=best.strategy,
        label=best.label,
        weight_bytes=best.weight_bytes,
        dtype=best.dtype,
        level=level.level,
        run_ids=best.run_ids,
        removed=tuple(sorted(removed_parts(best.removal_order, level.level, best.layer_count))),
        costs=level.costs,
        candidates=candidates,
    )


def _preference_key(
    candidate: Candidate, level: Level, budget: CostBudget
) -> tuple[float, float, float, str]:
    """The sort key of a passing level; the best level has the smallest key.

    The best level saves the most of the first cost in the budget; without a budget, it removes the
    most layers. Candidates of comparisons are ordered by the size of their weights; a candidate of
    unknown size comes last. Equal levels are ordered by their loss of calibration, then by
    strategy.
    """
    size = 0.0
    if candidate.label is not None:
        size = math.inf if candidate.weight_bytes is None else float(candidate.weight_bytes)
    saved = float(level.level) if candidate.label is None else 0.0
    if budget.terms:
        term = budget.terms[0]
        saved = (level.costs[term.column] or 0) * (1 if term.more_is_better else -1)
    losses = [
        check.loss
        for check in level.checks
        if check.criterion == "calibration" and check.loss is not None
    ]
    return -saved, size, max(losses, default=0), candidate.strategy
