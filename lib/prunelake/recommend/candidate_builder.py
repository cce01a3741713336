"""Build a candidate from the runs of one removal order, or from one candidate of comparisons."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.command_line import SettlingSweep, settling_sweep
from prunelake.identity import run_kind, sweep_spec
from prunelake.recommend.budget import CostBudget
from prunelake.recommend.candidates import (
    Candidate,
    Check,
    CostValues,
    Gap,
    Level,
    NoLevelReason,
)
from prunelake.recommend.gaps import closing_commands, find_gaps, next_level, task_commands
from prunelake.spec import SweepSpec


def build_candidate(
    runs: Sequence[Mapping[str, Any]],
    tasks: Sequence[str],
    checks: pl.DataFrame,
    costs: Mapping[str, Mapping[int, CostValues]],
    budget: CostBudget,
    specs: Mapping[str, SweepSpec],
    has_twin: bool = False,
) -> Candidate:
    """The candidate of the runs of one removal order: rows of `runs`, one for each task.

    Rows with a label are comparisons: only the rows of this candidate count. `checks` are rows of
    `criteria` under one calibrator, and may include other runs. `costs` are the known costs by run
    id and level. `specs` has a spec with each task. `has_twin` says that the strategy has another
    order, too.
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
    levels: list[Level] = []
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
                    _check(row) for row in rows.sort("task", "criterion").iter_rows(named=True)
                ),
            )
        )
    levels.sort(key=lambda item: item.level)
    first_failed = next((level for level in levels if level.is_tested and not level.is_met), None)
    best = max((x.level for x in levels if x.is_reached and x.is_within_budget), default=None)
    settling = _settling_sweeps(runs, first_failed.failures) if first_failed else []
    reason: NoLevelReason | None = None
    gaps: tuple[Gap, ...] = ()
    closed_by: tuple[str, ...] = ()
    if not has_all_tasks:
        closed_by = task_commands(runs, specs, tasks) if label is None else ()
    elif label is None:
        gaps = find_gaps(tasks, levels, budget, best)
    if best is None:
        reason = _no_level_reason(levels, gaps, has_all_tasks)
    if has_all_tasks and label is None:
        deeper = next_level(first) if levels and best == levels[-1].level else None
        if deeper is not None:
            gaps = (*gaps, Gap(kind="evaluation", names=tuple(tasks), levels=(deeper,)))
        closed_by = closing_commands(runs, gaps, needs_run=has_twin)
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
        level=best,
        reason=reason,
        settled_by=tuple(sweep.command for sweep in settling if sweep.command),
        shortages=tuple(
            f"{sweep.shortage} would show whether level {first_failed.level} passes."
            for sweep in settling
            if first_failed and sweep.shortage
        ),
        gaps=gaps,
        closed_by=closed_by,
    )


def _check(row: Mapping[str, Any]) -> Check:
    fields = {name: row[name] for name in Check.model_fields if name != "is_measured"}
    return Check(**fields, is_measured=row["value"] is not None or bool(row["n"]))


def _settling_sweeps(
    runs: Sequence[Mapping[str, Any]], failures: Sequence[Check]
) -> list[SettlingSweep]:
    """The sweeps that would show whether a level passes these failed checks."""
    if any(check.n_needed is None for check in failures):
        return []
    sweeps = []
    for run in runs:
        open_checks = [check for check in failures if check.run_id == run["run_id"]]
        if not open_checks or run_kind(run["identity"]) != "sweep":
            continue
        rows, explained_rows = (
            max(
                (check.n_needed or 0 for check in open_checks if bool(check.method) == x), default=0
            )
            for x in (False, True)
        )
        sweeps.append(
            settling_sweep(
                sweep_spec(run),
                run["example_count"],
                rows,
                explained_rows,
            )
        )
    return sweeps


def _no_level_reason(
    levels: Sequence[Level], gaps: Sequence[Gap], has_all_tasks: bool
) -> NoLevelReason:
    if not has_all_tasks:
        return "task_missing"
    if any(gap.kind == "cost" for gap in gaps):
        return "cost_unknown"
    is_within = any(level.is_within_budget for level in levels)
    if is_within and any(level.is_tested and not level.is_met for level in levels):
        return "quality"
    return "not_tested" if gaps or is_within else "over_budget"


def _counted_costs(level: int, layer_count: int | None) -> dict[str, float | None]:
    share = level / layer_count if layer_count else None
    return {"removed_layers": float(level), "removed_share": share}
