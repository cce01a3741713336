"""The evidence of the lake for one criterion: the difference from level 0, and its samples."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import polars as pl
from scipy.special import stdtrit

from prunelake.analysis.looks import FIXED, RunLooks, load_looks
from prunelake.analysis.sequential import LookTimes, nominal_level
from prunelake.gate.criterion import Criterion
from prunelake.gate.differences import Row, correct_answers, differences, limited_row
from prunelake.gate.margin_tests import (
    CountSample,
    MeanSample,
    PairedCounts,
    Sample,
    SampleAtLook,
)
from prunelake.lake.sql.bound_query import BoundQuery, Connection
from prunelake.schema.metrics import AOPC_METRICS, FLIP_RATES, METRIC_DEFINITIONS
from prunelake.schema.table import METRIC_KEY

CORRECT_COLUMNS = {"accuracy": "is_correct", "accuracy_norm": "is_correct_norm"}
"""The metrics that count right examples, and the column that says whether an example is right."""

ONE_SIDED = 0.95
"""The confidence of each end of the interval of a loss."""


@dataclass(frozen=True)
class Evidence:
    """The difference of one metric from level 0.

    [`low`, `high`] holds the loss (the change in the worse direction): each end is the end of a
    one-sided interval at 95 %. A value is None where it is unknown, and `note` says why.
    """

    baseline_value: float | None = None
    value: float | None = None
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    n: int | None = None
    method: str | None = None
    operator: str | None = None
    variant: str | None = None
    note: str | None = None
    looks: Sequence[SampleAtLook] = field(default=(), repr=False)


@dataclass(frozen=True)
class RunEvidence:
    """The differences of one run from its level 0.

        RunEvidence.read(connection, levels=[4]).of(criterion, level=4)

    `differences` and `correct_answers` are those of `gate.differences`; `look_rows` are the rows of
    `looks`.
    """

    differences: Sequence[Row]
    correct_answers: pl.DataFrame
    looks: RunLooks = FIXED
    look_rows: Sequence[Row] = ()

    @classmethod
    def read(cls, connection: Connection, levels: Sequence[int]) -> Self:
        """The evidence of the only run that the connection shows."""
        return cls(
            differences(connection, levels),
            correct_answers(connection, levels),
            load_looks(connection),
            BoundQuery("from looks order by look").records(connection),
        )

    def of(self, criterion: Criterion, level: int) -> Evidence:
        """The evidence for a criterion at a level."""
        if not self.differences:
            return Evidence(note="the run has no analysis: `prunelake analyse` computes it")
        row = limited_row(self.differences, criterion, level)
        if isinstance(row, str):
            return Evidence(note=row)
        higher_is_better = criterion.higher_is_better
        low, high = _loss_interval(row, higher_is_better)
        delta = row["delta"]
        if high is None and delta is not None and row["n"]:
            high = self._bound_of_equals(row)
            low = None if high is None else -high
        missing = "not measured" if row["value"] is None else "its interval is unknown"
        return Evidence(
            baseline_value=row["unpruned_value"],
            value=row["value"],
            loss=None if delta is None else _loss(delta, higher_is_better),
            low=low,
            high=high,
            se=row["delta_se"],
            n=row["n"],
            note=None if high is not None else row["note"] or missing,
            looks=tuple(self._looks(row, higher_is_better)),
            **{name: row[name] for name in METRIC_KEY[1:]},
        )

    def _bound_of_equals(self, row: Row) -> float | None:
        """The one-sided bound of a loss if all examples have equal values on both sides.

        With n equal examples, at most a share of 1 - alpha^(1 / n) of all examples differs, with
        error alpha. A mean differs by at most its range at each of them. ECE sums absolute gaps, so
        an example that leaves one bin and enters another moves it twice. None where values differ
        or the metric has no such limit.
        """
        definition = METRIC_DEFINITIONS[row["metric"]]
        width = definition.high - definition.low
        is_ece = row["metric"] == "ece"
        is_mean = definition.covers_all_predictions or row["metric"] in AOPC_METRICS
        is_equal = row["delta"] == 0 and row["delta_se"] is None
        if (
            not is_equal
            or not (is_mean or is_ece)
            or math.isinf(width)
            or row["variant"] == "normalised"
        ):
            return None
        times = self.looks.times(row["level"], row["method"] is not None).times
        alpha = nominal_level(times, 1 - ONE_SIDED) if times else 0.0
        return float((2 if is_ece else 1) * width * (1 - alpha ** (1 / row["n"])))

    def _looks(self, row: Row, higher_is_better: bool) -> Iterator[SampleAtLook]:
        """The samples of all looks that test a metric.

        A metric without rows of `looks` is tested at the last look only.
        """
        if self.looks.design is None:
            at_looks = {1: row}
        else:
            key = ("level", *METRIC_KEY)
            at_looks = {
                at_look["look"]: at_look
                for at_look in self.look_rows
                if all(at_look[name] == row[name] for name in key)
            } or {len(self.looks.sizes): row}
        for number, at_look in at_looks.items():
            times = self.looks.until(number).times(row["level"], row["method"] is not None)
            is_count = row["metric"] in CORRECT_COLUMNS
            sample = (
                self._paired_counts(row, number)
                if is_count
                else _sample(row, at_look, times, higher_is_better)
            )
            if sample is not None:
                yield SampleAtLook(sample, times)

    def _paired_counts(self, row: Row, look: int) -> PairedCounts | None:
        """The discordant examples at a look."""
        chosen = self.correct_answers.filter(level=row["level"])
        if self.looks.design is not None:
            chosen = chosen.filter(pl.col("position") < self.looks.sizes[look - 1].rows)
        column = CORRECT_COLUMNS[row["metric"]]
        changes = chosen[column].cast(pl.Int8) - chosen[f"unpruned_{column}"].cast(pl.Int8)
        if changes.is_empty():
            return None
        return PairedCounts(len(changes), int((changes < 0).sum()), int((changes > 0).sum()))


def _sample(row: Row, at_look: Row, times: LookTimes, higher_is_better: bool) -> Sample | None:
    """The sample behind a row of `looks`, or behind the only row of `deltas`."""
    n, delta = at_look["n"], at_look["delta"]
    if not n or delta is None:
        return None
    if row["metric"] in FLIP_RATES:
        return CountSample(n, round(delta * n))
    if at_look["equivalence_low"] is not None:
        return _mean_sample(at_look, times, higher_is_better)
    if row["is_tested"] or row["delta_se"] is None:
        return None
    return MeanSample(n, _loss(delta, higher_is_better), row["delta_se"])


def _mean_sample(row: Row, times: LookTimes, higher_is_better: bool) -> MeanSample | None:
    """The sample behind the intervals of a tested mean; None without intervals.

    Both intervals have the same centre and standard error, which follow from their lower ends.
    """
    if row["delta_low"] is None:  # no example differs: nothing speaks for a loss
        return None
    names = ("delta_low", "equivalence_low")
    if higher_is_better:
        names = ("delta_high", "equivalence_high")
    if any(row[name] is None for name in names):
        return None
    wide, narrow = (_loss(row[name], higher_is_better) for name in names)
    quantiles = stdtrit(
        row["n"] - 1, (1 + np.array([times.confidence, times.equivalence_confidence])) / 2
    )
    step = float(quantiles[0] - quantiles[1])
    if not step > 0:  # the look spends no error
        return None
    se = (narrow - wide) / step
    return MeanSample(row["n"], narrow + float(quantiles[1]) * se, se) if se > 0 else None


def _loss_interval(row: Row, higher_is_better: bool) -> tuple[float | None, float | None]:
    """The one-sided bounds of a loss at 95 %; None where they are unknown."""
    ends = row["equivalence_low"], row["equivalence_high"]
    if ends[0] is None and not row["is_tested"]:
        ends = row["delta_low"], row["delta_high"]  # wider: two-sided at 95 %
        if None not in ends and row["look_count"] is None:
            half = float(stdtrit(row["n"] - 1, ONE_SIDED)) * row["delta_se"]
            ends = row["delta"] - half, row["delta"] + half
    if ends[0] is None or ends[1] is None:
        return None, None
    low, high = sorted(_loss(end, higher_is_better) for end in ends)
    return low, high


def _loss(change: float, higher_is_better: bool) -> float:
    """A change, positive if the metric gets worse."""
    return 0.0 - change if higher_is_better else change
