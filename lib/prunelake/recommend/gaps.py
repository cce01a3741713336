"""Gaps: evidence that levels lack before they can be recommended, and commands that add it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from prunelake.command_line import sweep_command
from prunelake.identity import run_kind, sweep_spec
from prunelake.recommend.budget import CostBudget
from prunelake.recommend.candidates import Gap, GapKind, Level
from prunelake.spec import Explanation, SweepSpec, unquantised_part

FIRST_EXPLAINED_ROWS = 24
"""The explained rows of a task that no run explains yet, as in the pilot of a sweep."""


def find_gaps(
    tasks: Sequence[str], levels: Sequence[Level], budget: CostBudget, best: int | None
) -> tuple[Gap, ...]:
    """The gaps of the levels of a removal order that could still be recommended.

    These levels are deeper than the `best` level, meet every known term of the budget, and fail no
    measured criterion, neither there nor at a shallower level.
    """
    lacking: dict[tuple[GapKind, tuple[str, ...]], list[int]] = {}
    for level in levels:
        if level.measured_failures:
            break
        if (best is not None and level.level <= best) or budget.is_exceeded(level.costs):
            continue
        evaluated = {check.task for check in level.checks}
        found: dict[GapKind, list[str]] = {
            "evaluation": [task for task in tasks if task not in evaluated],
            "explanations": [task for task in tasks if task in level.unexplained_tasks],
            "cost": budget.unknown_costs(level.costs),
        }
        for kind, names in found.items():
            if names:
                lacking.setdefault((kind, tuple(names)), []).append(level.level)
    return tuple(
        Gap(kind=kind, names=names, levels=tuple(levels_lacking))
        for (kind, names), levels_lacking in lacking.items()
    )


def next_level(run: Mapping[str, Any]) -> int | None:
    """The level behind the deepest level of a run, at the distance of its last two levels.

    None beyond half of the layers, where a sweep ends by default.
    """
    last, deepest = [0, 0, *run["levels"]][-2:]
    deeper: int = deepest + max(1, deepest - last)
    return deeper if deeper <= (run["layer_count"] or 0) // 2 else None


def closing_commands(
    runs: Sequence[Mapping[str, Any]], gaps: Sequence[Gap], needs_run: bool
) -> tuple[str, ...]:
    """The commands that add the evidence of these gaps; a repeated sweep reuses its cells.

    `runs` are the rows of `runs` of one removal order, one for each task. Imported runs cannot be
    extended. With `needs_run` the lake has several orders of this strategy, so that a profile needs
    the run whose order counts.
    """
    commands = [
        sweep_command(_extended(sweep_spec(run), run, own))
        for run in runs
        if (own := [gap for gap in gaps if gap.kind != "cost" and run["task"] in gap.names])
        and run_kind(run["identity"]) == "sweep"
    ]
    if any(gap.kind == "cost" for gap in gaps):
        run = runs[0]
        levels = sorted({0, *(level for each in runs for level in each["levels"])})
        words = ["prunelake", "profile", "--model", run["model"], "--strategy", run["strategy"]]
        words += ["--levels", ",".join(map(str, levels))]
        if run["dtype"] and (dtype := unquantised_part(run["dtype"])) != "float32":
            words += ["--dtype", dtype]
        commands.append(shlex.join(words + (["--run", run["run_id"]] if needs_run else [])))
    return tuple(commands)


def task_commands(
    runs: Sequence[Mapping[str, Any]], specs: Mapping[str, SweepSpec], tasks: Sequence[str]
) -> tuple[str, ...]:
    """The sweeps of the tasks on which a removal order was not evaluated.

    `specs` has a spec with each task. An order that was searched on the rows of one task does not
    apply to other tasks, and imports cannot be extended: both have no such command.
    """
    run = runs[0]
    if run_kind(run["identity"]) != "sweep":
        return ()
    spec = sweep_spec(run)
    if spec.strategy.reads_rows:
        return ()
    known = {each["task"] for each in runs}
    return tuple(
        sweep_command(spec.model_copy(update={"task": specs[task].task, "split_rows": None}))
        for task in tasks
        if task not in known and task in specs
    )


def _extended(spec: SweepSpec, run: Mapping[str, Any], gaps: Sequence[Gap]) -> SweepSpec:
    """The spec of a run with the levels of these gaps, evaluated and explained."""
    levels = {level for gap in gaps for level in gap.levels}
    if not levels <= {*run["levels"]}:
        spec = spec.model_copy(update={"levels": tuple(sorted({*run["levels"], *levels}))})
    known = spec.explain
    if known is None and any(gap.kind == "explanations" for gap in gaps):
        rows = min(FIRST_EXPLAINED_ROWS, run["example_count"])
        known = Explanation(rows=rows, levels=(0,))
    if known is not None and known.levels is not None:
        explained = tuple(sorted({*known.levels, *levels}))
        known = known.model_copy(update={"levels": explained})
    return spec.model_copy(update={"explain": known})
