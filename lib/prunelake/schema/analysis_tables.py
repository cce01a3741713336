"""The tables of an analysis: statistics of a run, which can be computed again at any time."""

from collections.abc import Mapping

import polars as pl

from prunelake.schema.table import METRIC_KEY, METRIC_KEY_SCHEMA, Table

ANALYSIS_VERSION = 2
"""Changes when the code computes other statistics from the same run: older ones are ignored and can
be computed again from the run's tables."""
ANALYSES = Table(
    "analyses",
    "run",
    ("run_id",),
    {
        "run_id": pl.String(),
        "analysis_version": pl.Int32(),
        "analysed_at": pl.Datetime("us", "UTC"),
        "replicates": pl.Int32(),  # of the bootstrap
        "seed": pl.Int32(),
        "margin": pl.Float64(),  # of accuracy, which makes a level stable
        "files": pl.List(
            pl.Struct({"table": pl.String(), "rows": pl.Int64(), "sha256": pl.String()})
        ),
    },
)
METRICS = Table(
    "metrics",
    "run x level x metric (x method, operator, variant)",
    ("run_id", "level", *METRIC_KEY),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        **METRIC_KEY_SCHEMA,
        "higher_is_better": pl.Boolean(),  # null: neither direction is
        "is_tested": pl.Boolean(),  # whether a difference from level 0 can be by chance
        "value": pl.Float64(),
        "n": pl.Int64(),  # examples behind value
        "ci_low": pl.Float64(),  # 95 %
        "ci_high": pl.Float64(),
        "paired_n": pl.Int64(),  # examples known here and at level 0: what follows is of them
        "paired_value": pl.Float64(),
        "unpruned_value": pl.Float64(),
        "delta": pl.Float64(),  # paired_value - unpruned_value
        "delta_se": pl.Float64(),
        "delta_low": pl.Float64(),  # 95 %
        "delta_high": pl.Float64(),
        "equivalence_low": pl.Float64(),  # 90 %: inside a margin, two one-sided tests at 5 % pass
        "equivalence_high": pl.Float64(),
        "p_value": pl.Float64(),  # of no difference from level 0, two-sided
        "note": pl.String(),  # why something is null
    },
)
CORRELATIONS = Table(
    "correlations",
    "run x metric (x method, operator, variant) x scope",
    ("run_id", *METRIC_KEY, "scope"),
    {
        "run_id": pl.String(),
        **METRIC_KEY_SCHEMA,
        "scope": pl.String(),  # all levels, or the stable ones
        "level_count": pl.Int64(),
        **{
            f"{kind}{bound}": pl.Float64()
            for kind in ("pearson", "spearman", "kendall", "partial")
            for bound in ("", "_low", "_high")
        },
        "note": pl.String(),
    },
)
OVERLAP_MATRIX = Table(
    "overlap_matrix",
    "run x method x level x other level",
    ("run_id", "method", "level", "other_level"),
    {
        "run_id": pl.String(),
        "method": pl.String(),
        "level": pl.Int32(),
        "other_level": pl.Int32(),
        "overlap_5": pl.Float64(),
        "overlap_10": pl.Float64(),
        "overlap_20": pl.Float64(),
        "spearman": pl.Float64(),
        "n": pl.Int64(),
    },
)
RECALIBRATED = Table(
    "recalibrated",
    "run x level x calibrator x metric",
    ("run_id", "level", "calibrator", "metric"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "calibrator": pl.String(),
        "metric": pl.String(),
        "higher_is_better": pl.Boolean(),
        "before": pl.Float64(),  # of the same level, as the model gave its confidence
        "before_low": pl.Float64(),  # 95 %, as all _low and _high here but equivalence
        "before_high": pl.Float64(),
        "value": pl.Float64(),  # recalibrated: no example by a calibrator that has seen it
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "n": pl.Int64(),
        "gain": pl.Float64(),  # how much better value is than before, in the metric's direction
        "gain_low": pl.Float64(),
        "gain_high": pl.Float64(),
        "gain_p_value": pl.Float64(),  # of no gain and no loss, two-sided
        "unpruned_value": pl.Float64(),  # of level 0, not recalibrated
        "delta": pl.Float64(),  # value - unpruned_value, over the examples known at both
        "delta_se": pl.Float64(),
        "delta_low": pl.Float64(),
        "delta_high": pl.Float64(),
        "equivalence_low": pl.Float64(),  # 90 %
        "equivalence_high": pl.Float64(),
        "p_value": pl.Float64(),  # of no difference from unpruned_value, two-sided
        "note": pl.String(),  # why something is null
    },
    is_optional=True,
)
CALIBRATORS = Table(
    "calibrators",
    "run x level x calibrator",
    ("run_id", "level", "calibrator"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "calibrator": pl.String(),
        "parameters": pl.String(),  # JSON; fitted to all rows of the run that could be scored
        "fit": pl.String(),  # how the reported metrics were kept apart from the rows of the fit
        "fit_rows": pl.Int64(),
        "note": pl.String(),  # why it could not be fitted
    },
    is_optional=True,
)
RECALIBRATED_RELIABILITY = Table(
    "recalibrated_reliability",
    "run x level x calibrator x bin",
    ("run_id", "level", "calibrator", "bin"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "calibrator": pl.String(),
        "bin": pl.Int32(),  # of 10, equal in width
        "n": pl.Int64(),
        "mean_confidence": pl.Float64(),
        "accuracy": pl.Float64(),
    },
    is_optional=True,
)
ANALYSIS_TABLES: Mapping[str, Table] = {
    t.name: t
    for t in (
        ANALYSES,
        METRICS,
        CORRELATIONS,
        OVERLAP_MATRIX,
        RECALIBRATED,
        CALIBRATORS,
        RECALIBRATED_RELIABILITY,
    )
}
"""What was computed from a run's tables; an analysis exists once its `analyses` file does."""
