"""One run -> its metrics with intervals and tests, its correlations, its recalibration."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from prunelake.analysis import correlation, statistics
from prunelake.analysis.bootstrap import BootstrappedMetric, bootstrap_metrics, why_unknown
from prunelake.analysis.example_scores import (
    ExampleScores,
    MetricKey,
    load_example_scores,
    load_option_scores,
)
from prunelake.analysis.recalibration import recalibrate
from prunelake.lake.commit import write_analysis
from prunelake.lake.storage import Location
from prunelake.lake.views import connect, select
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.arrays import AnyFloatArray
from prunelake.schema.metrics import METRIC_DEFINITIONS, value_range
from prunelake.schema.table import METRIC_KEY

BOOTSTRAP_REPLICATES = 2000
BOOTSTRAP_SEED = 0
ACCURACY_MARGIN = 0.02
"""Of accuracy: a level is stable where two one-sided tests at 5 % place it within the margin."""

ACCURACY_KEY: MetricKey = ("accuracy", "", "", "")
NO_EXAMPLES_NOTE = "published without examples: no interval, no test"

JsonRow = dict[str, Any]


def analyse(lake: Location, run_id: str) -> None:
    """Compute the statistics of one run from its tables, and write them beside it.

    Raises:
        LakeError: no such run, or a lake that cannot be written.
        WrongFormat, CorruptFile: as `views.connect`.
    """
    with connect(lake, [run_id]) as connection:
        reported = select(connection, "from lake.reported")
        if reported.is_empty():
            found = load_example_scores(connection)
            metrics, correlations = tested_rows(found, BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED)
            again = recalibrate(
                found, load_option_scores(connection, found), BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED
            )
        else:
            metrics, correlations = published_rows(reported)
            again = {"metrics": []}  # there is nothing to fit to
        overlaps = select(connection, "select * from level_overlaps order by all").to_dicts()
    rows = again | {
        "metrics": metrics + again["metrics"],
        "correlations": correlations,
        "overlap_matrix": overlaps,
    }
    about = {
        "run_id": run_id,
        "analysis_version": ANALYSIS_VERSION,
        "analysed_at": datetime.now(UTC),
        "replicates": BOOTSTRAP_REPLICATES,
        "seed": BOOTSTRAP_SEED,
        "margin": ACCURACY_MARGIN,
    }
    frames = {
        name: ANALYSIS_TABLES[name].frame(
            [_nan_to_null(row) | {"run_id": run_id} for row in rows[name]]
        )
        for name in rows
    }
    write_analysis(lake, about, frames)


def tested_rows(
    found: ExampleScores, replicates: int, seed: int
) -> tuple[list[JsonRow], list[JsonRow]]:
    """Rows of `metrics` and of `correlations`, all from one bootstrap over the run's examples."""
    measured = bootstrap_metrics(found, replicates, seed)
    metrics = [
        _metric_row(level, cell, one, _discordant_counts(found, place, cell))
        for place, level in enumerate(found.levels)
        for cell, one in measured[place].items()
    ]
    stable = {0} | {
        row["level"]
        for row in metrics
        if row["metric"] == "accuracy"
        and row["equivalence_low"] is not None
        and row["equivalence_low"] > -ACCURACY_MARGIN
        and row["equivalence_high"] < ACCURACY_MARGIN
    }
    correlations = [
        _correlation_row(scope, cell, levels, dict(zip(found.levels, measured, strict=True)))
        for scope, levels in (("all", set(found.levels)), ("stable", stable))
        for cell in measured[0]
        if cell != ACCURACY_KEY
    ]
    return metrics, correlations


def published_rows(reported: pl.DataFrame) -> tuple[list[JsonRow], list[JsonRow]]:
    """The same of a run that was published without examples: no interval, no test, no scope stable.

    Every row says why.
    """
    values: dict[MetricKey, dict[int, float]] = {}
    for row in reported.iter_rows(named=True):
        values.setdefault(tuple(row[name] for name in METRIC_KEY), {})[row["level"]] = row["value"]
    metrics = []
    for cell, by_level in values.items():
        for level, value in by_level.items():
            unpruned = by_level.get(0)
            metrics.append(
                _empty_metric_row(level, cell)
                | {
                    "value": value,
                    "paired_value": value,
                    "unpruned_value": unpruned,
                    "delta": None if unpruned is None else value - unpruned,
                    "note": NO_EXAMPLES_NOTE,
                }
            )
    correlations: list[JsonRow] = []
    accuracy = values.get(ACCURACY_KEY, {})
    for cell, by_level in values.items():
        if cell == ACCURACY_KEY:
            continue
        levels = sorted(accuracy.keys() & by_level.keys())
        pairs = np.array([[accuracy[level], by_level[level]] for level in levels]).reshape(-1, 2)
        found, note = _correlation_columns(np.array(levels, float), pairs[:, :1], pairs[:, 1:])
        named = dict(zip(METRIC_KEY, cell, strict=True)) | {"level_count": len(levels)}
        correlations += [
            named | found | {"scope": "all", "note": note or NO_EXAMPLES_NOTE},
            named | {"scope": "stable", "level_count": None, "note": NO_EXAMPLES_NOTE},
        ]
    return metrics, correlations


def _empty_metric_row(level: int, cell: MetricKey) -> JsonRow:
    metric = METRIC_DEFINITIONS[cell[0]]
    return dict.fromkeys(ANALYSIS_TABLES["metrics"].schema) | {
        "level": level,
        **dict(zip(METRIC_KEY, cell, strict=True)),
        "higher_is_better": metric.higher_is_better,
        "is_tested": metric.is_tested and cell[1] != "random",
    }


def _metric_row(
    level: int, cell: MetricKey, one: BootstrappedMetric, changes: tuple[int, int] | None
) -> JsonRow:
    ci_low, ci_high = one.interval(*value_range(cell[0], cell[3]))
    se = one.estimate.se
    row = _empty_metric_row(level, cell) | {
        "value": one.value,
        "n": one.n,
        "ci_low": ci_low,
        "ci_high": ci_high,
        "paired_n": one.paired_n,
        "paired_value": one.paired_value,
        "unpruned_value": one.unpruned_value,
        "delta": one.paired_value - one.unpruned_value,
    }
    if level == 0:
        return row | {"note": why_unknown(cell[0], one.value, one.n, se)}
    delta = one.difference
    row |= {"delta_se": delta.se, "delta_low": delta.low, "delta_high": delta.high}
    row["note"] = (
        why_unknown(cell[0], one.value, one.n, se)
        or _why_untested(row)
        or why_unknown(cell[0], delta.value, one.paired_n, delta.se)
    )
    if not row["is_tested"]:
        return row
    if changes is not None and one.paired_n:
        equivalence = statistics.tango_interval(*changes, one.paired_n, confidence=0.9)
        row["p_value"] = statistics.mcnemar_p_value(*changes)
    else:
        equivalence = delta.equivalence_low, delta.equivalence_high
        row["p_value"] = delta.p_value
    return row | {"equivalence_low": equivalence[0], "equivalence_high": equivalence[1]}


def _discordant_counts(found: ExampleScores, place: int, cell: MetricKey) -> tuple[int, int] | None:
    """How many examples a level lost and won against level 0; None where no example is won."""
    if cell[0] not in ("accuracy", "accuracy_norm"):
        return None
    column = found.values[:, :, found.metric_keys.index(cell)]
    difference = column[place] - column[found.levels.index(0)]
    return int((difference < 0).sum()), int((difference > 0).sum())


def _why_untested(row: JsonRow) -> str | None:
    if row["is_tested"]:
        return None
    if row["method"] == "random":
        return "a ranking by chance: not tested"
    return "compares with level 0 by itself: not tested"


def _correlation_row(
    scope: str,
    cell: MetricKey,
    levels: set[int],
    measured: Mapping[int, Mapping[MetricKey, BootstrappedMetric]],
) -> JsonRow:
    known = sorted(
        level
        for level in levels
        if not math.isnan(measured[level][ACCURACY_KEY].value + measured[level][cell].value)
    )
    ones, others = (
        np.array([np.append(m.value, m.replicates) for m in (measured[k][c] for k in known)])
        for c in (ACCURACY_KEY, cell)
    )
    found, note = _correlation_columns(np.array(known, dtype=float), ones, others)
    return dict(zip(METRIC_KEY, cell, strict=True)) | found | {"scope": scope, "note": note}


def _correlation_columns(
    levels: AnyFloatArray, accuracy: AnyFloatArray, metric: AnyFloatArray
) -> tuple[JsonRow, str | None]:
    """The correlations of the first column, intervals from the others, and why there are none."""
    row: JsonRow = {"level_count": len(levels)}
    note = None
    if len(levels) < correlation.MIN_CORRELATION_LEVELS:
        return row, f"fewer than {correlation.MIN_CORRELATION_LEVELS} levels"
    for name, values in (("accuracy", accuracy), ("metric", metric)):
        if np.ptp(np.round(values[:, 0], 12)) == 0:
            return row, f"constant {name}"
    reliabilities = correlation.reliabilities(levels, accuracy, metric)
    for kind, values in correlation.correlations(levels, accuracy, metric).items():
        row[kind] = values[0]
        if len(values) > 1:  # replicates, too
            low, high = correlation.interval(values[0], values[1:], reliabilities[kind])
            row[f"{kind}_low"], row[f"{kind}_high"] = low, high
            if math.isnan(low) and not math.isnan(values[0]):
                note = "no interval: a series is constant in over a tenth of the resamples"
    return row, note


def _nan_to_null(row: JsonRow) -> JsonRow:
    """NaN is what could not be computed; the lake keeps that as null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
