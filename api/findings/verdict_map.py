"""The map of verdicts: each level of each run by its worst verdict, and the finding of each run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from prunelake.command_line import rounded_up
from prunelake.schema.verdicts import Verdict

from ..queries import run_metrics, runs, verdict_map
from ..queries.snapshots.snapshot import ReadRows, Snapshot
from .headline import headline
from .level_names import LevelNames
from .level_rows import JUDGED_METRICS
from .wording import isolated, label, listed, model_name

Row = Mapping[str, Any]

MAX_NAMED_METRICS = 2

CLAUSES: Mapping[Verdict, str] = {
    Verdict.hidden_degradation: "hidden degradation",
    Verdict.worse: "a worse metric while accuracy is inconclusive or rises",
    Verdict.visible_degradation: "lower accuracy",
    Verdict.improved: "better accuracy and nothing shown to be worse",
    Verdict.equivalent: "stable accuracy and nothing shown to be worse",
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
    mapped = [
        MappedRun(
            run_id=row["run_id"],
            finding=run_finding(row),
            levels=row["levels"],
            verdicts=row["verdicts"],
        )
        for row in snapshot.rows(verdict_map.run_verdicts(JUDGED_METRICS)).iter_rows(named=True)
    ]
    # The latest run comes first among runs with equal findings: sorting is stable.
    mapped.sort(key=_rank)
    return VerdictMap(outline=_outline(read, mapped) if mapped else "", runs=mapped)


def run_finding(run: Row) -> str:
    """A row of `run_verdicts` in a line: the harmless level, the first loss, or the need."""
    names = _names(run)
    clauses = []
    if harmless := run["harmless"]:
        where = harmless if names.is_comparison else harmless[-1:]
        clauses.append(f"accuracy holds and nothing is shown to be worse {names.at(where)}")
    if hidden := run["hidden"]:
        where = names.at([hidden["level"]])
        clauses.append(f"hidden degradation of {_metrics(hidden['metrics'])} {where}")
    elif worse := run["worse"]:
        accuracy = "rises" if worse["accuracy"] == Verdict.improved else "is inconclusive"
        where = names.at([worse["level"]])
        clauses.append(f"worse {_metrics(worse['metrics'])} {where} while accuracy {accuracy}")
    if run["visible"] is not None:
        clauses.append(f"accuracy falls {names.at([run['visible']])}")
    if not clauses:
        clauses = [_price(run, names)]
    text = "; ".join(clauses)
    return f"{text[0].upper()}{text[1:]}"


def _price(run: Row, names: LevelNames) -> str:
    """The number of examples that would decide accuracy at the cheapest level."""
    if cheapest := run["cheapest"]:
        return (
            f"about {rounded_up(cheapest['n_needed']):,} examples would decide accuracy "
            f"{names.at([cheapest['level']])}; it has {cheapest['n']:,}"
        )
    is_published = not any(run["verdicts"])
    return "published without examples: no verdicts" if is_published else "no verdict yet"


def _outline(read: ReadRows, mapped: Sequence[MappedRun]) -> str:
    """The number of runs by their foremost verdict; if all are open, the command that decides."""
    counts = Counter(_rank(run) for run in mapped)
    groups = [(counts[rank], f"with {words}") for rank, words in enumerate(CLAUSES.values())]
    decided = [(count, words) for count, words in groups if count]
    if not decided:
        run_id = mapped[0].run_id
        run = read(runs.all_runs([run_id])).row(0, named=True)
        said = headline(run, read(run_metrics.headline_metrics([run_id])))
        return f"{isolated(model_name(run['model']))}, {isolated(run['task'])}: {said}"
    if open_count := counts[len(CLAUSES)]:
        decided.append((open_count, "without a verdict"))
    noun = "run" if len(mapped) == 1 else "runs"
    if len(decided) == 1:
        return f"{len(mapped):,} {noun} {decided[0][1]}"
    parts = [f"{count:,} {words}" for count, words in decided]
    return f"{len(mapped):,} {noun}: {'; '.join(parts)}"


def _rank(run: MappedRun) -> int:
    """The position of the foremost verdict of a run in `CLAUSES`; their number if all are open."""
    ranks = [rank for rank, verdict in enumerate(CLAUSES) if verdict in run.verdicts]
    return min(ranks, default=len(CLAUSES))


def _names(run: Row) -> LevelNames:
    """The names of the levels of a row of `run_verdicts`."""
    if run["labels"] is None:
        return LevelNames(among=tuple(run["all_levels"]))
    return LevelNames(dict(zip(run["all_levels"], run["labels"], strict=True)))


def _metrics(names: Sequence[str]) -> str:
    ordered = [label(metric) for metric in JUDGED_METRICS if metric in names]
    if len(ordered) > MAX_NAMED_METRICS + 1:
        more = f"{len(ordered) - MAX_NAMED_METRICS} more"
        ordered = [*ordered[:MAX_NAMED_METRICS], more]
    return listed(ordered)
