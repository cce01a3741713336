"""A sweep until decided: it adds rows in rounds until every verdict is decided.

The first round is a pilot. It decides nothing; it shows how much each criterion varies, which sets
the planned number of examples. Each later round is a run of its own: it reuses the cells of the
earlier rounds and looks at all its examples. The looks share the error of one test
(`analysis.sequential`).
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prunelake.analysis.power import examples_for_changes_between
from prunelake.analysis.sequential import MIN_LOOK
from prunelake.command_line import grown_rows, rounded_up
from prunelake.errors import InvalidSpec
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.lake.sql.views import connect
from prunelake.planning.pilots import measured_spreads, pilot_rows, spread_at
from prunelake.schema.metrics import DEFAULT_MARGIN, FAITHFULNESS_METRICS
from prunelake.schema.verdicts import Verdict
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_ROW_COUNT, Explanation, Look, Rows, SequentialDesign, SweepSpec
from prunelake.sweeps.until_decided.open_questions import (
    ROW_METRICS,
    lost_levels,
    open_questions,
    verdicts_on_criteria,
)
from prunelake.sweeps.until_decided.rounds import (
    EXPLAINED_UNIT,
    GROWTH,
    OpenQuestions,
    RoundSize,
    next_round,
)
from prunelake.tasks.catalogue import find_task
from prunelake.tasks.rows import read_records

POWER = 0.95
"""The power of each verdict. A large plan is cheap: rounds end when every verdict is decided."""

INFLATION = 1.05
"""Several looks need about this many times the examples of a single look."""

PILOT_EXPLAINED_ROWS = 24


@dataclass(frozen=True)
class Limits:
    """The margin at which verdicts are decided, and the most rows and minutes of the sweep.

    Raises:
        InvalidSpec: a value is not above 0.
    """

    margin: float = DEFAULT_MARGIN
    max_rows: int | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("margin", "max_rows", "max_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidSpec(f"{name.replace('_', ' ')} {value:g} is not above 0")


@dataclass(frozen=True)
class Round:
    """A finished round: its run, its size, and its open cells (level, metric)."""

    number: int  # 0 is the pilot
    run_id: str
    size: RoundSize
    open_cells: tuple[tuple[int, str], ...]
    cell_count: int

    def outcome(self, margin: float) -> str:
        """Whether every question is decided after this round, and a list of the open questions."""
        if not self.open_cells:
            return f"All {self.cell_count} questions are decided at a margin of {margin:g}."
        names = [f"{metric} at level {level}" for level, metric in self.open_cells]
        return (
            f"{len(names)} of {self.cell_count} questions are open at a margin of {margin:g}: "
            f"{', '.join(names)}. The sweep has used all planned rows or reached a limit."
        )

    def __str__(self) -> str:
        explained = sorted(set(self.size.explained.values()))
        text = f"round {self.number}: {self.size.rows:,} rows"
        if explained:
            text += f", {explained[0]:,}" + f" to {explained[-1]:,}" * (len(explained) > 1)
            text += " explained"
        decided = self.cell_count - len(self.open_cells)
        return f"{text}; {decided} of {self.cell_count} questions are decided; run {self.run_id}"


def run_until_decided(
    spec: SweepSpec,
    limits: Limits,
    settings: Settings,
    evaluate: Callable[[SweepSpec], str],
    report: Callable[[Round], None] = lambda _: None,
) -> list[Round]:
    """Sweep in rounds until every criterion is decided at every level. Returns the rounds in order.

        run_until_decided(SweepSpec(task="opinions", rows=Rows(sample=100)), Limits(), settings,
                          lambda spec: run_sweep(spec, settings))

    The criteria are accuracy, ECE, comprehensiveness and sufficiency. The spec gives the rows and
    explained rows of the pilot, by default a sample of 100 rows. Repeating the sweep reuses its
    rounds in the lake, and continues where a limit has stopped it.

    Raises:
        InvalidSpec: the spec lists row numbers, which cannot grow, or asks for texts; or a limit is
            below the rows of the pilot.
        PruneLakeError: as `run_sweep`.
    """
    started = time.perf_counter()
    if spec.texts is not None:
        raise InvalidSpec(
            "rounds measure no texts: leave out --text-rows (texts in a spec file), and measure "
            "texts by another sweep, which reuses the cells of this one"
        )
    available = available_rows(spec.task, spec.rows, limits, settings)
    if spec.rows == Rows():
        spec = spec.model_copy(update={"rows": Rows(sample=min(DEFAULT_ROW_COUNT, available))})
    first, pilot = _pilot(spec, limits, settings, evaluate)
    rounds = [pilot]
    report(pilot)
    with connect(settings.lake, [pilot.run_id]) as connection:
        planned = _planned_size(connection, pilot, limits.margin, available)
    looks: tuple[Look, ...] = ()
    seconds = 0.0
    while True:
        last = rounds[-1]
        with connect(settings.lake, [last.run_id]) as connection:
            questions = _questions(connection, last, limits.margin)
        size = next_round(last.size, planned, questions) if last.open_cells else None
        used = time.perf_counter() - started
        if size is None or _exceeds(limits, used + GROWTH * seconds):
            return rounds
        round_started = time.perf_counter()
        run_id = evaluate(_round_spec(first, size, planned, limits.margin, looks))
        seconds = time.perf_counter() - round_started
        with connect(settings.lake, [run_id]) as connection:
            rounds.append(_finished(connection, len(rounds), run_id, size, limits.margin))
        report(rounds[-1])
        looks = (*looks, look_of(run_id, size))


def available_rows(task: str, pilot: Rows, limits: Limits, settings: Settings) -> int:
    """The number of rows that rounds after a pilot may use: the task's split, up to the limit.

    Raises:
        InvalidSpec: the pilot lists row numbers, which cannot grow, or exceeds the limit.
        PruneLakeError: the rows of the task cannot be read.
    """
    if pilot.numbers is not None:
        raise InvalidSpec("row numbers cannot grow in rounds; take sample:N or the first N rows")
    available = len(read_records(find_task(task), settings.data)[1])
    count = pilot.sample or pilot.first or 0
    if limits.max_rows is not None:
        if limits.max_rows < count:
            raise InvalidSpec(f"max rows {limits.max_rows}: the pilot alone has {count} rows")
        available = min(available, limits.max_rows)
    return available


def _pilot(
    spec: SweepSpec, limits: Limits, settings: Settings, evaluate: Callable[[SweepSpec], str]
) -> tuple[SweepSpec, Round]:
    """The spec and the round of the pilot. Levels that have lost accuracy are not explained."""
    count = spec.rows.sample or spec.rows.first or 0
    predictions = spec.model_copy(update={"explain": None})
    run_id = evaluate(predictions)
    size = RoundSize(count)
    with connect(settings.lake, [run_id]) as connection:
        found = _finished(connection, 0, run_id, size, limits.margin)
        questions = _questions(connection, found, limits.margin)
        (levels,) = BoundQuery("select levels from runs").records(connection)[0].values()
    explain = spec.explain
    if explain is None:
        return predictions, found
    explained = [
        level for level in explain.levels or levels if level > 0 and level not in questions.lost
    ]
    if not explained:
        return predictions, found
    rows = min(count, explain.rows or PILOT_EXPLAINED_ROWS)
    explain = explain.model_copy(update={"rows": rows, "levels": (0, *explained)})
    explained_spec = spec.model_copy(update={"explain": explain})
    run_id = evaluate(explained_spec)
    size = RoundSize(count, dict.fromkeys(explained, rows))
    with connect(settings.lake, [run_id]) as connection:
        return explained_spec, _finished(connection, 0, run_id, size, limits.margin)


def _planned_size(connection: Connection, pilot: Round, margin: float, available: int) -> RoundSize:
    """The planned number of examples, from the spreads of a pilot; all error is spent there."""
    metrics = (*ROW_METRICS, *FAITHFULNESS_METRICS)
    known = pilot_rows(connection, [pilot.run_id], pilot.run_id, metrics)
    spreads = measured_spreads(known)

    def needed(level: int, names: Iterable[str]) -> int:
        count = max(
            examples_for_changes_between(
                -math.inf, math.inf, spread_at(spreads, level, name)[0], margin, POWER
            )
            for name in names
        )
        return min(available, max(MIN_LOOK, rounded_up(math.ceil(INFLATION * count))))

    levels = sorted({level for level, _ in known})
    rows = max((needed(level, ROW_METRICS) for level in levels), default=available)
    explained = {
        level: min(
            available,
            EXPLAINED_UNIT * math.ceil(needed(level, FAITHFULNESS_METRICS) / EXPLAINED_UNIT),
        )
        for level in pilot.size.explained
    }
    return RoundSize(max(rows, pilot.size.rows), explained)


def _round_spec(
    first: SweepSpec,
    size: RoundSize,
    planned: RoundSize,
    margin: float,
    looks: tuple[Look, ...],
) -> SweepSpec:
    """The spec of a round after the pilot."""
    return first.model_copy(
        update=round_fields(first.rows, first.explain, size, planned, margin, looks)
    )


def round_fields(
    pilot: Rows,
    explain: Explanation | None,
    size: RoundSize,
    planned: RoundSize,
    margin: float,
    looks: tuple[Look, ...],
) -> dict[str, Any]:
    """The fields of a spec that differ between a pilot and a round of this size after `looks`."""
    if explain is not None:
        most = max(size.explained.values())
        fewer = _pairs({level: n for level, n in size.explained.items() if n < most})
        explain = explain.model_copy(update={"rows": most, "level_rows": fewer})
    design = SequentialDesign(
        margin=margin,
        planned_rows=planned.rows,
        planned_explained=_pairs(planned.explained),
        looks=looks,
    )
    return {"rows": grown_rows(pilot, size.rows), "explain": explain, "sequential": design}


def look_of(run_id: str, size: RoundSize) -> Look:
    """A finished round as an earlier look of the next round."""
    return Look(run_id=run_id, rows=size.rows, explained=_pairs(size.explained))


def _finished(
    connection: Connection, number: int, run_id: str, size: RoundSize, margin: float
) -> Round:
    """A round with its verdicts. A pilot decides nothing.

    Explanations of levels that have lost accuracy do not count as questions.
    """
    verdicts = verdicts_on_criteria(connection, run_id, margin)
    lost = lost_levels(verdicts)
    cells = [row for row in verdicts if row["metric"] in ROW_METRICS or row["level"] not in lost]
    open_cells = tuple(
        (row["level"], row["metric"])
        for row in cells
        if number == 0 or row["verdict"] == Verdict.inconclusive
    )
    return Round(number, run_id, size, open_cells, len(cells))


def _questions(connection: Connection, last: Round, margin: float) -> OpenQuestions:
    return open_questions(verdicts_on_criteria(connection, last.run_id, margin), last.open_cells)


def _pairs(counts: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(counts.items()))


def _exceeds(limits: Limits, seconds: float) -> bool:
    return limits.max_minutes is not None and seconds > 60 * limits.max_minutes
