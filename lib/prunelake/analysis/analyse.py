"""The analysis of one run: metrics with intervals and tests, correlations and recalibration."""

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl

from prunelake.analysis import correlation
from prunelake.analysis.bootstrap import BootstrappedMetric, bootstrap_metrics
from prunelake.analysis.example_scores import (
    ExampleScores,
    MetricKey,
    load_example_scores,
    load_option_scores,
)
from prunelake.analysis.looks import (
    FIXED,
    RunLooks,
    combine_looks,
    load_looks,
    load_positions,
    look_rows,
    scores_at,
)
from prunelake.analysis.metric_rows import empty_metric_row, metric_rows
from prunelake.analysis.rank_pairs import load_rank_pairs
from prunelake.analysis.recalibration.before_and_after import recalibrate
from prunelake.lake.commit import write_analysis
from prunelake.lake.open_tables.register import refresh_tables
from prunelake.lake.sql.views import connect, keep_rows, select
from prunelake.lake.storage.location import Location
from prunelake.schema.analysis_tables import (
    ANALYSIS_TABLES,
    ANALYSIS_VERSION,
    CANDIDATES_NOTE,
    FOREIGN_TEXTS_NOTE,
    FOREIGN_TOKENS_NOTE,
    NO_EXAMPLES_NOTE,
)
from prunelake.schema.arrays import AnyFloatArray
from prunelake.schema.metrics import ACCURACY_MARGIN, BASELINE_AGREEMENT_METRICS, TOKEN_METRICS
from prunelake.schema.table import METRIC_KEY, TableRow

BOOTSTRAP_REPLICATES = 2000
BOOTSTRAP_SEED = 0

ACCURACY_KEY: MetricKey = ("accuracy", "", "", "")


def analyse(lake: Location, run_id: str) -> None:
    """Compute the statistics of one run from its tables, and write them beside the run.

        analyse(Path("lake"), run_id)

    The seed is fixed: repeating the analysis gives the same numbers. Delta and Iceberg tables over
    the lake then have the run, too.

    Raises:
        LakeError: the lake has no such run, or cannot be written.
        WrongFormat, CorruptFile: as `views.connect`.
    """
    write_analysis(lake, *analysis_of_run(lake, run_id, BOOTSTRAP_REPLICATES))
    refresh_tables(lake)


def analysis_of_run(
    lake: Location, run_id: str, replicates: int
) -> tuple[TableRow, dict[str, pl.DataFrame]]:
    """The row of `analyses` and the frame of every derived table, as `write_analysis` takes them.

    Intervals come from `replicates` resamples.

    Raises:
        LakeError: the lake has no such run.
        WrongFormat, CorruptFile: as `views.connect`.
    """
    with connect(lake, [run_id]) as connection:
        reported = select(connection, "from lake.reported")
        reported = reported.with_columns(pl.col(METRIC_KEY).fill_null(""))  # as the files have it
        # The metrics, the matrix of levels and the stored pairs come from the same attributions.
        keep_rows(connection, "compared_ranks")
        if reported.is_empty():
            scores = load_example_scores(connection)
            options = load_option_scores(connection, scores)
            looks = load_looks(connection)
            metrics, correlations = analyse_examples(scores, replicates, BOOTSTRAP_SEED, looks)
            recalibrated = recalibrate(
                scores, options, replicates, BOOTSTRAP_SEED, looks.times(0, is_explained=False)
            )
            if looks.design is not None:
                positions = load_positions(connection, scores.example_ids)
                recalibrated["looks"] = add_looks(metrics, scores, positions, replicates, looks)
        else:
            metrics, correlations = analyse_published(reported)
            recalibrated = {"metrics": []}  # fitting a calibrator needs examples
        overlaps = select(
            connection, "select * exclude (model, strategy, task) from level_overlaps order by all"
        ).to_dicts()
        rank_pairs = load_rank_pairs(connection)
        levels = select(connection, "select level, kind, shares_tokens from levels")
    if "candidate" in levels["kind"]:
        correlations = [_without_correlation(row) for row in correlations]
    _explain_missing_agreement(metrics, set(levels.filter(~pl.col("shares_tokens"))["level"]))
    rows = recalibrated | {
        "metrics": metrics + recalibrated["metrics"],
        "correlations": correlations,
        "overlap_matrix": overlaps,
    }
    analysis = {
        "run_id": run_id,
        "analysis_version": ANALYSIS_VERSION,
        "analysed_at": datetime.now(UTC),
        "replicates": replicates,
        "seed": BOOTSTRAP_SEED,
        "margin": ACCURACY_MARGIN,
    }
    frames = {
        name: ANALYSIS_TABLES[name].frame(
            [_nan_to_null(row) | {"run_id": run_id} for row in table_rows]
        )
        for name, table_rows in rows.items()
    }
    return analysis, frames | {"rank_pairs": rank_pairs}


def analyse_examples(
    scores: ExampleScores, replicates: int, seed: int, looks: RunLooks = FIXED
) -> tuple[list[TableRow], list[TableRow]]:
    """The rows of `metrics` and of `correlations`, from one bootstrap over the examples.

    `looks` are the looks of a sequential run; the last look has all its examples.
    """
    by_level = bootstrap_metrics(scores, replicates, seed)
    metrics = metric_rows(scores, by_level, looks)
    stable = {0} | {
        row["level"]
        for row in metrics
        if row["metric"] == "accuracy"
        and row["equivalence_low"] is not None
        and row["equivalence_low"] > -ACCURACY_MARGIN
        and row["equivalence_high"] < ACCURACY_MARGIN
    }
    correlations = [
        _correlation_row(scope, key, levels, dict(zip(scores.levels, by_level, strict=True)))
        for scope, levels in (("all", set(scores.levels)), ("stable", stable))
        for key in by_level[0]
        if key != ACCURACY_KEY
    ]
    return metrics, correlations


def add_looks(
    metrics: list[TableRow],
    scores: ExampleScores,
    positions: Sequence[int],
    replicates: int,
    looks: RunLooks,
) -> list[TableRow]:
    """The rows of `looks` of a sequential run; narrows the intervals in `metrics`, in place."""
    by_look = []
    for number, size in enumerate(looks.sizes[:-1], start=1):
        earlier = scores_at(scores, positions, size)
        by_level = bootstrap_metrics(earlier, replicates, BOOTSTRAP_SEED)
        by_look.append(metric_rows(earlier, by_level, looks.until(number)))
    # The rows of the last look, before earlier looks narrow them.
    rows = list(look_rows(looks, [*by_look, metrics]))
    combine_looks([*by_look, metrics])
    return rows


def analyse_published(reported: pl.DataFrame) -> tuple[list[TableRow], list[TableRow]]:
    """The rows of `metrics` and of `correlations` of a run that was published without examples.

    There are no intervals, no tests and no correlations over stable levels; a note in every row
    gives the reason.
    """
    values: dict[MetricKey, dict[int, float]] = {}
    for row in reported.iter_rows(named=True):
        values.setdefault(tuple(row[name] for name in METRIC_KEY), {})[row["level"]] = row["value"]
    metrics = []
    for key, by_level in values.items():
        for level, value in by_level.items():
            unpruned = by_level.get(0)
            metrics.append(
                empty_metric_row(level, key)
                | {
                    "value": value,
                    "paired_value": value,
                    "unpruned_value": unpruned,
                    "delta": None if unpruned is None else value - unpruned,
                    "note": NO_EXAMPLES_NOTE,
                }
            )
    correlations: list[TableRow] = []
    accuracy = values.get(ACCURACY_KEY, {})
    for key, by_level in values.items():
        if key == ACCURACY_KEY:
            continue
        levels = sorted(accuracy.keys() & by_level.keys())
        pairs = np.array([[accuracy[level], by_level[level]] for level in levels]).reshape(-1, 2)
        columns, note = _correlation_columns(np.array(levels, float), pairs[:, :1], pairs[:, 1:])
        key_columns = dict(zip(METRIC_KEY, key, strict=True)) | {"level_count": len(levels)}
        correlations += [
            key_columns | columns | {"scope": "all", "note": note or NO_EXAMPLES_NOTE},
            key_columns | {"scope": "stable", "level_count": None, "note": NO_EXAMPLES_NOTE},
        ]
    return metrics, correlations


def _correlation_row(
    scope: str,
    key: MetricKey,
    levels: set[int],
    by_level: Mapping[int, Mapping[MetricKey, BootstrappedMetric]],
) -> TableRow:
    known = sorted(
        level
        for level in levels
        if not math.isnan(by_level[level][ACCURACY_KEY].value + by_level[level][key].value)
    )
    accuracy, metric = (
        np.array(
            [
                np.append(by_level[level][name].value, by_level[level][name].replicates)
                for level in known
            ]
        )
        for name in (ACCURACY_KEY, key)
    )
    columns, note = _correlation_columns(np.array(known, dtype=float), accuracy, metric)
    return dict(zip(METRIC_KEY, key, strict=True)) | columns | {"scope": scope, "note": note}


def _correlation_columns(
    levels: AnyFloatArray, accuracy: AnyFloatArray, metric: AnyFloatArray
) -> tuple[TableRow, str | None]:
    """The columns of a correlation, and why some are unknown.

    `levels` is [levels], `accuracy` and `metric` are [levels, 1 + replicates]: the first column is
    the sample, the others give the intervals. Without replicates there are no intervals.
    """
    row: TableRow = {"level_count": len(levels)}
    note = None
    if len(levels) < correlation.MIN_CORRELATION_LEVELS:
        return row, f"fewer than {correlation.MIN_CORRELATION_LEVELS} levels"
    for name, series in (("accuracy", accuracy), ("metric", metric)):
        if np.ptp(np.round(series[:, 0], 12)) == 0:
            return row, f"constant {name}"
    reliabilities = correlation.reliabilities(levels, accuracy, metric)
    for kind, values in correlation.correlations(levels, accuracy, metric).items():
        row[kind] = values[0]
        if len(values) > 1:
            low, high = correlation.interval(values[0], values[1:], reliabilities[kind])
            row[f"{kind}_low"], row[f"{kind}_high"] = low, high
            if math.isnan(low) and not math.isnan(values[0]):
                note = "no interval: a series is constant in over a tenth of the resamples"
    return row, note


def _without_correlation(row: TableRow) -> TableRow:
    """The row of a correlation over candidates: without numbers, with the reason."""
    kept = ("scope", "level_count", *METRIC_KEY)
    return {name: row.get(name) for name in kept} | {"note": CANDIDATES_NOTE}


def _explain_missing_agreement(metrics: list[TableRow], foreign_levels: Collection[int]) -> None:
    """Add to the notes of these rows that tokens of different tokenizers were not compared."""
    for row in metrics:
        if row["level"] in foreign_levels and row["metric"] in BASELINE_AGREEMENT_METRICS:
            row["note"] = FOREIGN_TOKENS_NOTE
        if row["level"] in foreign_levels and row["metric"] in TOKEN_METRICS:
            row["note"] = FOREIGN_TEXTS_NOTE


def _nan_to_null(row: TableRow) -> TableRow:
    """The row with null for each NaN: the lake stores an unknown number as null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in row.items()
    }
