"""Lookups in the rows of `run_metrics.headline_metrics` of one run: values, verdicts, levels."""

from collections.abc import Sequence

import polars as pl

from prunelake.schema.metrics import FAITHFULNESS_METRICS
from prunelake.schema.verdicts import Verdict

JUDGED_METRICS = (
    "accuracy",
    "flip_rate",
    "ece",
    "brier",
    "nll",
    "auroc",
    "comprehensiveness",
    "sufficiency",
    "comprehensiveness_advantage",
    "sufficiency_advantage",
    "cross_overlap_10",
)
"""The tested metrics that charts and the report show; the view `verdicts` has all of them."""

CORRELATED_METRICS = (*JUDGED_METRICS[1:], "mean_confidence", "overlap_10")
"""The metrics whose correlation with accuracy charts and the report show."""


HEADLINE_METRICS = ("ece", *FAITHFULNESS_METRICS)


HIDDEN_VERDICTS = (Verdict.hidden_degradation,)


WITHIN_MARGIN_VERDICTS = (Verdict.equivalent, Verdict.worse_within_margin)
"""A metric with one of these verdicts is shown to lie within its margin."""


WORSE_VERDICTS = (Verdict.hidden_degradation, Verdict.visible_degradation, Verdict.worse)


def value_at(levels: pl.DataFrame, metric: str, level: int) -> float | None:
    """The value of a metric at a level; None without a value."""
    values = levels.filter(metric=metric, level=level)["value"]
    value: float | None = values[0] if len(values) else None
    return value


def baseline_example_count(levels: pl.DataFrame, metric: str) -> int:
    """The number of examples behind the unpruned value of a metric; 0 where it is unknown."""
    counts = levels.filter(metric=metric, level=0)["n"]
    return (counts[0] or 0) if len(counts) else 0


def is_published(levels: pl.DataFrame) -> bool:
    """Whether the values were published without the examples behind them."""
    return levels.height > 0 and levels["n"].null_count() == levels.height


def pruned_levels(levels: pl.DataFrame) -> list[int]:
    """The levels above 0 that have an accuracy, ascending."""
    known = levels.filter(pl.col("level") > 0, metric="accuracy").drop_nulls("value")
    return sorted(known["level"].to_list())


def levels_with_verdict(levels: pl.DataFrame, metric: str, verdicts: Sequence[str]) -> list[int]:
    """The levels at which a metric has one of these verdicts, ascending."""
    # For the rows of one run, a loop is quicker than an expression of polars.
    rows = zip(*(levels[name].to_list() for name in ("level", "metric", "verdict")), strict=True)
    return sorted(level for level, of, verdict in rows if of == metric and verdict in verdicts)


def stable_levels(levels: pl.DataFrame) -> list[int]:
    """The levels above 0 whose accuracy is equivalent to the unpruned accuracy."""
    return levels_with_verdict(levels, "accuracy", [Verdict.equivalent])


def default_level(levels: pl.DataFrame) -> int | None:
    """The level to compare with level 0; None without a pruned level.

    It is the deepest stable level, else the first pruned level. For published values, whose
    stability is unknown, it is the deepest level. Of candidates it is the candidate with the most
    hidden degradations, else the first.
    """
    known = pruned_levels(levels)
    if known and "candidate" in levels["kind"]:
        hidden = levels.filter(pl.col("verdict").is_in(HIDDEN_VERDICTS))["level"].to_list()
        return max(known, key=lambda level: (hidden.count(level), -level))
    chosen = stable_levels(levels) or known[:1]
    if is_published(levels):
        chosen = known
    return max(chosen, default=None)
