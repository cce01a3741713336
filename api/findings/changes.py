"""Clauses about how one metric changes over levels, from rows of `run_metrics.headline_metrics`."""

from collections.abc import Sequence

import polars as pl

from prunelake.schema.verdicts import Verdict

from .level_names import LevelNames
from .level_rows import (
    WORSE_VERDICTS,
    baseline_example_count,
    levels_with_verdict,
    value_at,
)
from .wording import from_to, label, listed

VERDICT_GROUPS = {
    "worse": WORSE_VERDICTS,
    "worse within its margin": (Verdict.worse_within_margin,),
    "better": (Verdict.improved,),
    "equivalent": (Verdict.equivalent,),
}
"""The word for each group of verdicts."""


def changed_values(levels: pl.DataFrame, metrics: Sequence[str], level: int) -> str:
    """Each metric with its value at level 0 and at a level: ECE (0.14 to 0.17)."""
    values = {name: (value_at(levels, name, 0), value_at(levels, name, level)) for name in metrics}
    return listed([f"{label(name)} ({from_to(*pair)})" for name, pair in values.items()])


def change_clause(levels: pl.DataFrame, metric: str) -> str | None:
    """The change of a metric up to its deepest level; None where either value is unknown.

    For candidates: the largest change.
    """
    known = levels.filter(pl.col("level") > 0, metric=metric).drop_nulls("value")
    before = value_at(levels, metric, 0)
    if before is None or known.is_empty():
        return None
    names = LevelNames.of(levels)
    order = (pl.col("value") - before).abs() if names.is_comparison else pl.col("level")
    shown = known.sort(order, "level").row(-1, named=True)
    change = from_to(before, shown["value"])
    return f"{label(metric)} goes from {change} {names.at([shown['level']])}"


def verdict_clause(levels: pl.DataFrame, metric: str) -> str | None:
    """The levels where a metric is worse, better and equivalent; None without verdicts."""
    rows = levels.filter(metric=metric).drop_nulls("verdict")
    if rows.is_empty():
        return None
    names = LevelNames.of(levels)
    clauses = [
        f"{word} {names.at(where)}"
        for word, verdicts in VERDICT_GROUPS.items()
        if (where := levels_with_verdict(levels, metric, verdicts))
    ]
    everywhere = f"inconclusive {names.preposition} every {names.kind}"
    return f"{label(metric)} is {listed(clauses) if clauses else everywhere}"


def sample_sizes(levels: pl.DataFrame, metrics: Sequence[str]) -> str:
    """The number of examples behind metrics: all examples, and the explained examples."""
    scored = baseline_example_count(levels, "accuracy")
    explained = {baseline_example_count(levels, metric) for metric in metrics} - {0, scored}
    return f"n = {scored}" + (f", explained: n = {min(explained)}" if explained else "")
