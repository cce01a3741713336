"""The map of verdicts: each level of each run by its worst verdict, and the finding of each run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from pydantic import BaseModel, Field

from prunelake.command_line import rounded_up
from prunelake.schema.verdicts import Verdict

from ..queries import run_metrics, runs, verdict_map
from ..queries.snapshot import ReadRows, Snapshot
from .headline import headline
from .level_names import LevelNames
from .level_rows import JUDGED_METRICS
from .wording import isolated, label, listed, model_name

Row = Mapping[str, Any]

MAX_NAMED_METRICS = 2

CLAUSES: Mapping[Verdict, str] = {
    Verdict.hidden_degradation: "hidden degradation in",
    Verdict.worse: "a metric is worse while accuracy is inconclusive or rises in",
    Verdict.visible_degradation: "accuracy falls in",
    Verdict.improved: "better accuracy and nothing shown to be worse in",
    Verdict.equivalent: "stable accuracy and nothing shown to be worse in",
}
"""The decided verdicts on a level, the most useful finding first, and their words."""


class MappedRun(BaseModel):
    """A run on the map; its model, task and labels are in `GET /models`."""

    run_id: str
    finding: str = Field(description="The run in one line, or the examples that it needs.")
    levels: list[int] = Field(description="The levels above 0.")
    verdicts: list[Verdict | None] = Field(
        description="The verdict on each level. hidden degradation: a metric is worse while "
        "accuracy is stable. visible degradation: accuracy falls. worse: a metric is worse while "
        "accuracy is inconclusive or rises. equivalent, improved: accuracy is stable or rises, and "
        "no metric is shown to be worse. inconclusive: the verdict on accuracy is open. null: "
        "published without examples."
    )


class VerdictMap(BaseModel):
    """All levels of all runs by their verdicts."""

    outline: str = Field(
        description="The number of runs with each finding; without any, the price of a finding."
    )
    runs: list[MappedRun] = Field(description="The runs, those with a finding first.")


def load_verdict_map(snapshot: Snapshot) -> VerdictMap:
    """The map of all runs with a level above 0."""
    read = snapshot.kept_rows
    about = {row["run_id"]: row for row in snapshot.records(runs.model_runs())}
    rows = read(verdict_map.level_verdicts(JUDGED_METRICS)).to_dicts()
    mapped = []
    for run_id, group in groupby(rows, key=lambda row: row["run_id"]):
        if run_id in about:
            levels = list(group)
            names = _names(about[run_id])
            mapped.append(
                MappedRun(
                    run_id=run_id,
                    finding=run_finding(levels, names),
                    levels=[row["level"] for row in levels],
                    verdicts=[level_verdict(row) for row in levels],
                )
            )
    # The latest run comes first among runs with equal findings: sorting is stable.
    mapped.sort(key=lambda run: about[run.run_id]["created_at"], reverse=True)
    mapped.sort(key=_rank)
    return VerdictMap(outline=_outline(read, mapped) if mapped else "", runs=mapped)


def level_verdict(row: Row) -> Verdict | None:
    """The verdict on a level, from a row of `verdict_map.level_verdicts`."""
    if row["accuracy"] is None:
        return None
    if row["hidden"]:
        return Verdict.hidden_degradation
    if row["accuracy"] == Verdict.visible_degradation:
        return Verdict.visible_degradation
    if row["worse"]:
        return Verdict.worse
    return Verdict(row["accuracy"])


def run_finding(levels: Sequence[Row], names: LevelNames) -> str:
    """The rows of one run in a line: its harmless level, its first loss, or what it needs."""
    by_verdict: dict[Verdict | None, list[Row]] = {}
    for row in levels:
        by_verdict.setdefault(level_verdict(row), []).append(row)
    clauses = []
    harmless = [
        row["level"]
        for row in levels
        if level_verdict(row) in (Verdict.equivalent, Verdict.improved)
    ]
    if harmless:
        where = harmless if names.is_comparison else harmless[-1:]
        clauses.append(f"accuracy holds and nothing is shown to be worse {names.at(where)}")
    if hidden := by_verdict.get(Verdict.hidden_degradation):
        first = hidden[0]
        clauses.append(f"hidden degradation of {_metrics(first['hidden'])} {_at(first, names)}")
    elif worse := by_verdict.get(Verdict.worse):
        first = worse[0]
        accuracy = "rises" if first["accuracy"] == Verdict.improved else "is inconclusive"
        clauses.append(
            f"worse {_metrics(first['worse'])} {_at(first, names)} while accuracy {accuracy}"
        )
    if visible := by_verdict.get(Verdict.visible_degradation):
        clauses.append(f"accuracy falls {_at(visible[0], names)}")
    if not clauses:
        clauses = [_price(levels, names)]
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}"


def _price(levels: Sequence[Row], names: LevelNames) -> str:
    """The number of examples that would decide accuracy at the cheapest level."""
    open_rows = [row for row in levels if row["n_needed"] is not None]
    if not open_rows:
        is_published = all(row["accuracy"] is None for row in levels)
        return "published without examples: no verdicts" if is_published else "no verdict yet"
    cheapest = min(open_rows, key=lambda row: (row["n_needed"], row["level"]))
    return (
        f"about {rounded_up(cheapest['n_needed']):,} examples would decide accuracy "
        f"{_at(cheapest, names)}; it has {cheapest['n']:,}"
    )


def _outline(read: ReadRows, mapped: Sequence[MappedRun]) -> str:
    """The number of runs by their foremost verdict; if all are open, the command that decides."""
    counts = Counter(_rank(run) for run in mapped)
    clauses = [
        f"{clause} {counts[rank]:,}" for rank, clause in enumerate(CLAUSES.values()) if counts[rank]
    ]
    open_count = len(mapped) - sum(counts[rank] for rank in range(len(CLAUSES)))
    if not clauses:
        run_id = mapped[0].run_id
        run = read(runs.all_runs([run_id])).row(0, named=True)
        said = headline(run, read(run_metrics.headline_metrics([run_id])))
        return f"{isolated(model_name(run['model']))}, {isolated(run['task'])}: {said}"
    if open_count:
        clauses.append(f"no verdict in {open_count:,}")
    text = "; ".join(
        [f"{clauses[0]} of {len(mapped):,} run{'s' * (len(mapped) > 1)}", *clauses[1:]]
    )
    return f"{text[0].upper()}{text[1:]}"


def _rank(run: MappedRun) -> int:
    """The position of the foremost verdict of a run in `CLAUSES`; their number if all are open."""
    ranks = [rank for rank, verdict in enumerate(CLAUSES) if verdict in run.verdicts]
    return min(ranks, default=len(CLAUSES))


def _names(run: Row) -> LevelNames:
    """The names of the levels of a row of `runs.model_runs`."""
    if run["kind"] != "candidate":
        return LevelNames(among=tuple(run["levels"]))
    return LevelNames(dict(zip(run["levels"], run["labels"], strict=True)))


def _at(row: Row, names: LevelNames) -> str:
    return names.at([row["level"]])


def _metrics(names: Sequence[str]) -> str:
    ordered = [label(metric) for metric in JUDGED_METRICS if metric in names]
    if len(ordered) > MAX_NAMED_METRICS + 1:
        more = f"{len(ordered) - MAX_NAMED_METRICS} more"
        ordered = [*ordered[:MAX_NAMED_METRICS], more]
    return listed(ordered)
