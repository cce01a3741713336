"""The finding of a run in one line: the harmless level, the worse levels, and the visible loss."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.schema.verdicts import Verdict

from .changes import changed_values
from .level_names import LevelNames
from .level_rows import (
    HEADLINE_METRICS,
    HIDDEN_VERDICTS,
    JUDGED_METRICS,
    WITHIN_MARGIN_VERDICTS,
    WORSE_VERDICTS,
    is_published,
    levels_with_verdict,
    pruned_levels,
    stable_levels,
    value_at,
)
from .sentences import accuracy_clause
from .settle import settled_by
from .verdict_labels import VERDICT_CLAUSES
from .wording import label, listed, removed_modules

MAX_NAMED_METRICS = 3


def headline(run: Mapping[str, Any], levels: pl.DataFrame, names_command: bool = True) -> str:
    """The finding of a run in one line.

    It names the level that is shown to be harmless for the most metrics, the first level with
    hidden degradation, the first level where a metric is worse while accuracy is inconclusive or
    rises, and the first level where accuracy falls. Without such levels it says so, and adds the
    command that would settle the verdicts if `names_command` is true. `levels` are the run's rows
    of `run_metrics.headline_metrics`. In a comparison it says this of each candidate, and whether
    any lost something while accuracy held; it names no command.
    """
    if is_published(levels) or value_at(levels, "accuracy", 0) is None or not pruned_levels(levels):
        return accuracy_clause(levels)
    names = LevelNames.of(levels)
    findings = sorted(_findings(levels))
    if names.is_comparison and (clauses := _candidate_clauses(levels, names)):
        return "; ".join(clauses)
    if not findings:
        text, open_verdicts = "No verdict is decided", "the verdicts"
        if decided_count(levels):
            # A level is harmless only if accuracy has a verdict, too.
            text = f"No {names.kind} is shown to be harmless or worse"
            open_verdicts = "the open verdicts"
        settling = settled_by(run, levels)
        # The command of a comparison names every model: too long for one line.
        if settling is None or not names_command or names.is_comparison:
            return text
        clause = settling.sentence(open_verdicts).removesuffix(".")
        return f"{text}; {clause[0].lower()}{clause[1:]}"
    modules = removed_modules(run["strategy"]).removesuffix("s" if findings[0][0] == 1 else "")
    return "; ".join(
        f"{f'Without {level} {modules}' if n == 0 else f'without {level}'}, {text}"
        for n, (level, text) in enumerate(findings)
    )


def decided_count(levels: pl.DataFrame) -> int:
    """The number of decided verdicts in a run."""
    return levels.filter(pl.col("verdict") != Verdict.inconclusive).height


def _findings(levels: pl.DataFrame) -> Iterator[tuple[int, str]]:
    """Each finding: its level and a clause."""
    if harmless := _harmless_level(levels):
        level, metrics = harmless
        verb = "stay within their margins" if len(metrics) > 1 else "stays within its margin"
        yield level, f"{listed([label(metric) for metric in metrics])} {verb}"
    if hidden := _first_worse(levels, JUDGED_METRICS, HIDDEN_VERDICTS):
        level, metrics = hidden
        words = VERDICT_CLAUSES[Verdict.hidden_degradation]
        yield level, f"{words} {changed_values(levels, metrics, level)}"
    if worse := _first_worse(levels, HEADLINE_METRICS, (Verdict.worse,)):
        level, metrics = worse
        rises = level in levels_with_verdict(levels, "accuracy", (Verdict.improved,))
        accuracy = "rises" if rises else "is inconclusive"
        yield level, f"worse {changed_values(levels, metrics, level)} while accuracy {accuracy}"
    if fallen := levels_with_verdict(levels, "accuracy", WORSE_VERDICTS):
        words = VERDICT_CLAUSES[Verdict.visible_degradation]
        yield fallen[0], f"{words} {changed_values(levels, ['accuracy'], fallen[0])}"


def _candidate_clauses(levels: pl.DataFrame, names: LevelNames) -> list[str]:
    """The findings on each candidate; candidates with hidden degradation come first."""
    hidden: list[str] = []
    others: list[str] = []
    for level in pruned_levels(levels):
        of_candidate = levels.filter(pl.col("level").is_in([0, level]))
        is_lost = _first_worse(of_candidate, JUDGED_METRICS, HIDDEN_VERDICTS) is not None
        clauses = [text for _, text in _findings(of_candidate)]
        if clauses:
            (hidden if is_lost else others).append(f"{names.name(level)}: {', '.join(clauses)}")
    if not hidden and stable_levels(levels):
        others.insert(0, "No candidate is shown to lose anything while accuracy holds")
    return [*hidden, *others]


def _harmless_level(levels: pl.DataFrame) -> tuple[int, list[str]] | None:
    """The deepest of the levels with the most metrics within their margins and no metric worse."""
    names = ("accuracy", *HEADLINE_METRICS)
    harmless = []
    for level in stable_levels(levels):
        rows = levels.filter(level=level)
        worse = rows.filter(
            pl.col("metric").is_in(JUDGED_METRICS), pl.col("verdict").is_in(WORSE_VERDICTS)
        )
        if worse.is_empty():
            within = set(rows.filter(pl.col("verdict").is_in(WITHIN_MARGIN_VERDICTS))["metric"])
            harmless.append((level, [name for name in names if name in within]))
    return max(harmless, key=lambda found: (len(found[1]), found[0]), default=None)


def _first_worse(
    levels: pl.DataFrame, metrics: Sequence[str], verdicts: Sequence[str]
) -> tuple[int, list[str]] | None:
    """The first level with one of the verdicts, and at most three metrics with it at this level."""
    where = {metric: levels_with_verdict(levels, metric, verdicts) for metric in metrics}
    first = min((found[0] for found in where.values() if found), default=None)
    if first is None:
        return None
    return first, [metric for metric in metrics if first in where[metric]][:MAX_NAMED_METRICS]
