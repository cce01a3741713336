"""A gate until decided: it adds rows in rounds until it has passed or failed.

Each task begins with a pilot, which decides nothing and plans the number of examples. Each later
round looks at all its examples; the looks share the error of each test (`analysis.sequential`). A
p-value that is the smallest over all looks, and an interval that is their intersection, hold at
whichever look the rounds end. So Holm's correction and the rule that all checks must pass keep
their error rates.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scipy.special import ndtri

from prunelake.analysis.sequential import MIN_LOOK
from prunelake.command_line import rounded_up
from prunelake.comparison_spec import ComparisonSpec
from prunelake.errors import InvalidSpec
from prunelake.gate.check import check_runs
from prunelake.gate.evidence import CORRECT_COLUMNS
from prunelake.gate.gate_file import Gate
from prunelake.gate.margin_tests import ONE_SIDED_LEVEL
from prunelake.gate.measure import Evaluate, measure, spec_of
from prunelake.gate.results import Check, GateResult, Result
from prunelake.schema.metrics import EXPLANATION_METRICS, FLIP_RATES
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_ROW_COUNT, Look, Rows, SweepSpec
from prunelake.sweeps.until_decided.rounds import (
    EXPLAINED_UNIT,
    GROWTH,
    OpenQuestions,
    RoundSize,
    next_round,
)
from prunelake.sweeps.until_decided.run import (
    INFLATION,
    PILOT_EXPLAINED_ROWS,
    POWER,
    Limits,
    available_rows,
    look_of,
    round_fields,
)

POWER_QUANTILE = float(ndtri(POWER))

SMALLEST_DISTANCE = 0.5
"""The plan decides a loss at this distance from its margin, as a share of the margin."""


@dataclass(frozen=True)
class TaskRounds:
    """The rounds of one task: the spec of its pilot, its plan, and the looks so far."""

    pilot: SweepSpec | ComparisonSpec
    size: RoundSize
    available: int
    planned: RoundSize = field(default_factory=lambda: RoundSize(0))
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True)
class GateRound:
    """A finished round: its number (0 is the pilot), the size of each task, and the result."""

    number: int
    sizes: Mapping[str, RoundSize]
    result: GateResult

    def __str__(self) -> str:
        sizes = "; ".join(f"{task} {_described(size)}" for task, size in self.sizes.items())
        if self.number == 0:
            return f"pilot: {sizes}"
        return f"round {self.number}: {sizes}. {self.result.summary}"


def gate_until_decided(
    gate: Gate,
    limits: Limits,
    settings: Settings,
    evaluate: Evaluate,
    report: Callable[[GateRound], None] = lambda _: None,
) -> GateResult:
    """Measure in rounds until the gate has passed or failed, or a limit is reached.

    The rows of the gate are the rows of the pilot, by default a sample of 100. A loss of at most
    half its margin, or of at least one and a half margins, is decided with a probability of about
    95 % if the task has enough rows. Repeating a gate reuses its rounds in the lake.

    Raises:
        InvalidSpec: a gate on given runs, row numbers, or a limit below the rows of the pilot.
        PruneLakeError: as `measure.measure_and_check`.
    """
    started = time.perf_counter()
    if gate.runs:
        raise InvalidSpec("the rows of given runs cannot grow; give model or baseline, not runs")
    tasks = {task: _first_round(gate, task, limits, settings) for task in gate.all_tasks}
    runs = measure({task: found.pilot for task, found in tasks.items()}, settings, evaluate)
    result = check_runs(settings.lake, gate, runs)
    tasks = {
        task: replace(found, planned=_planned(found, _of(result, task), len(result.checks)))
        for task, found in tasks.items()
    }
    result = _without_decision(result)
    number, seconds = 0, 0.0
    report(GateRound(0, {task: found.size for task, found in tasks.items()}, result))
    while result.result is Result.undecided:
        following = {
            task: size
            for task, found in tasks.items()
            if (size := _next_size(found, _of(result, task), number == 0)) is not None
        }
        used = time.perf_counter() - started + GROWTH * seconds
        if not following or (limits.max_minutes is not None and used > 60 * limits.max_minutes):
            break
        round_started = time.perf_counter()
        specs = {}
        for task, size in following.items():
            found = tasks[task] = replace(tasks[task], size=size)
            margin = min(criterion.margin for criterion in gate.criteria_of(task))
            fields = round_fields(
                found.pilot.rows, found.pilot.explain, size, found.planned, margin, found.looks
            )
            specs[task] = found.pilot.model_copy(update=fields)
        new = measure(specs, settings, evaluate)
        for task, run_id in new.items():
            look = look_of(run_id, tasks[task].size)
            tasks[task] = replace(tasks[task], looks=(*tasks[task].looks, look))
        runs |= new
        result = check_runs(settings.lake, gate, runs)
        seconds, number = time.perf_counter() - round_started, number + 1
        report(GateRound(number, {task: found.size for task, found in tasks.items()}, result))
    return result


def _first_round(gate: Gate, task: str, limits: Limits, settings: Settings) -> TaskRounds:
    """The pilot of a task: the rows of the gate; the first rows are explained."""
    rows = gate.rows or Rows()
    available = available_rows(task, rows, limits, settings)
    if rows == Rows():
        rows = Rows(sample=min(DEFAULT_ROW_COUNT, available))
    spec = spec_of(gate, task, rows)
    count = rows.sample or rows.first or 0
    if spec.explain is None:
        return TaskRounds(spec, RoundSize(count), available)
    explained = min(count, spec.explain.rows or PILOT_EXPLAINED_ROWS)
    levels = [*gate.levels] or [*range(1, len(gate.candidates) + 1)]
    explain = spec.explain.model_copy(update={"rows": explained, "levels": (0, *sorted(levels))})
    size = RoundSize(count, dict.fromkeys(levels, explained))
    return TaskRounds(spec.model_copy(update={"explain": explain}), size, available)


def _of(result: GateResult, task: str) -> list[Check]:
    return [check for check in result.checks if check.task == task]


def _planned(found: TaskRounds, checks: Sequence[Check], count: int) -> RoundSize:
    """The number of examples at which all error is spent, from the spreads of the pilot."""

    def needed(chosen: Sequence[Check]) -> int:
        most = max((_examples(check, count) for check in chosen), default=0)
        return min(found.available, max(MIN_LOOK, rounded_up(math.ceil(INFLATION * most))))

    explained = {
        level: min(
            found.available,
            EXPLAINED_UNIT
            * math.ceil(
                needed([c for c in checks if c.level == level and _is_explained(c)])
                / EXPLAINED_UNIT
            ),
        )
        for level in found.size.explained
    }
    rows = needed([check for check in checks if not _is_explained(check)])
    return RoundSize(max(rows, found.size.rows, *explained.values(), 0), explained)


def _examples(check: Check, count: int) -> float:
    """The examples that decide one of `count` checks at the smallest distance."""
    n, se, change = check.n or 0, check.se or 0.0, check.change or 0.0
    variance = se**2 * n
    if check.metric in FLIP_RATES:
        variance = check.margin * (1 - check.margin)
    elif check.metric in CORRECT_COLUMNS:
        # One changed and one equal example are added: a few equal examples do not prove equality.
        variance = ((variance + change**2) * n + 1) / (n + 2)
    quantiles = POWER_QUANTILE - float(ndtri(ONE_SIDED_LEVEL / count))
    return (quantiles / (SMALLEST_DISTANCE * check.margin)) ** 2 * variance


def _next_size(found: TaskRounds, checks: Sequence[Check], is_pilot: bool) -> RoundSize | None:
    """The size of the next round of a task; None if no more rows can decide a check.

    After a pilot with all rows, the round has the same rows.
    """
    open_checks = [check for check in checks if is_pilot or check.result is Result.undecided]
    questions = OpenQuestions(
        rows=any(not _is_explained(check) for check in open_checks),
        levels={check.level for check in open_checks if _is_explained(check)},
    )
    size = next_round(found.size, found.planned, questions)
    return found.size if size is None and is_pilot else size


def _is_explained(check: Check) -> bool:
    return check.metric in EXPLANATION_METRICS


def _without_decision(result: GateResult) -> GateResult:
    """The result of a pilot, which decides nothing."""
    note = {
        "result": Result.undecided,
        "note": "only the pilot was measured, and it decides nothing",
    }
    checks = tuple(check.model_copy(update=note) for check in result.checks)
    return GateResult(result=Result.undecided, checks=checks)


def _described(size: RoundSize) -> str:
    explained = max(size.explained.values(), default=0)
    return f"{size.rows:,} rows" + (f", {explained:,} explained" if explained else "")
