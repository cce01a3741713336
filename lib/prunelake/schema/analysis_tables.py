"""The tables of an analysis: statistics of a run, which can be computed again at any time."""

import polars as pl

from prunelake.schema.table import METRIC_KEY, METRIC_KEY_SCHEMA, Table, TableGroup

ANALYSIS_VERSION = 8
"""The version of the statistics. It changes when the code computes other numbers from the same run.

Analyses of another version are ignored, and can be computed again from the tables of their run.
"""

NO_EXAMPLES_NOTE = "published without examples: no interval, no test"
"""The note of metrics and correlations that were published elsewhere."""

CANDIDATES_NOTE = "candidates have no order, so nothing is correlated over them"
"""The note of correlations in a run whose levels are candidates."""

FOREIGN_TOKENS_NOTE = "its tokenizer splits prompts otherwise: attributions are not compared"
"""The note of agreement metrics of a candidate whose tokens are not those of the baseline."""

FOREIGN_TEXTS_NOTE = "its tokenizer splits prompts otherwise: texts are not compared by tokens"
"""The note of metrics of texts that count the tokens of a candidate, for such a candidate."""

ANALYSES = Table(
    "analyses",
    "run",
    ("run_id",),
    {
        "run_id": pl.String(),
        "analysis_version": pl.Int32(),
        "analysed_at": pl.Datetime("us", "UTC"),
        "replicates": pl.Int32(),  # the number of resamples
        "seed": pl.Int32(),
        "margin": pl.Float64(),  # accuracy is stable if its change lies within
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
        "higher_is_better": pl.Boolean(),  # null: neither direction is better
        "is_tested": pl.Boolean(),  # whether the difference from level 0 is tested
        "value": pl.Float64(),
        "n": pl.Int64(),  # examples behind `value`
        "ci_low": pl.Float64(),  # 95 % interval
        "ci_high": pl.Float64(),
        "paired_n": pl.Int64(),  # examples scored here and at level 0; the rest uses these
        "paired_value": pl.Float64(),
        "unpruned_value": pl.Float64(),
        "delta": pl.Float64(),  # paired_value - unpruned_value
        "delta_se": pl.Float64(),
        "delta_low": pl.Float64(),  # 95 %
        "delta_high": pl.Float64(),
        "equivalence_low": pl.Float64(),  # 90 %: within a margin, both one-sided 5 % tests pass
        "equivalence_high": pl.Float64(),
        "p_value": pl.Float64(),  # two-sided, of no difference from level 0; null for flip_rate
        "look_count": pl.Int32(),  # looks of a sequential run; intervals and p-value allow for them
        "look_factor": pl.Float64(),  # the largest ratio of p_value to the p-value of a single test
        "note": pl.String(),  # why a value is null
    },
)
LOOKS = Table(
    "looks",
    "run x look x level x metric (x method, operator, variant)",
    ("run_id", "look", "level", *METRIC_KEY),
    {
        "run_id": pl.String(),
        "look": pl.Int32(),  # from 1; the last look is the run itself
        "look_run_id": pl.String(),  # the run of this look
        "level": pl.Int32(),
        **METRIC_KEY_SCHEMA,
        "n": pl.Int64(),  # examples scored here and at level 0
        "delta": pl.Float64(),
        "delta_low": pl.Float64(),  # 95 % over all looks
        "delta_high": pl.Float64(),
        "equivalence_low": pl.Float64(),  # 90 % over all looks
        "equivalence_high": pl.Float64(),
        "p_value": pl.Float64(),  # repeated, two-sided
        "decision": pl.String(),  # at the margin of the design: equivalent, changed; null: open
    },
    is_optional=True,
)
CORRELATIONS = Table(
    "correlations",
    "run x metric (x method, operator, variant) x scope",
    ("run_id", *METRIC_KEY, "scope"),
    {
        "run_id": pl.String(),
        **METRIC_KEY_SCHEMA,
        "scope": pl.String(),  # `all` levels or the `stable` levels
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
RANK_PAIRS = Table(
    "rank_pairs",
    "run x level x example x method x token count",
    ("run_id", "level", "example_id", "method", "token_count"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "example_id": pl.String(),
        "method": pl.String(),
        "token_count": pl.Int64(),
        # One element for each pair, in the same order in all lists (see the view compared_ranks).
        "seed": pl.List(pl.Int32()),
        "other_level": pl.List(pl.Int32()),
        "other_seed": pl.List(pl.Int32()),
        "common_5": pl.List(pl.Int32()),
        "common_10": pl.List(pl.Int32()),
        "common_20": pl.List(pl.Int32()),
        "product": pl.List(pl.Float64()),
        "squared_norms": pl.List(pl.Float64()),
    },
    is_optional=True,
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
        "before": pl.Float64(),  # the same level, not recalibrated
        "before_low": pl.Float64(),  # 95 %, like all intervals here except equivalence
        "before_high": pl.Float64(),
        "value": pl.Float64(),  # recalibrated, each example by a calibrator not fitted to it
        "ci_low": pl.Float64(),
        "ci_high": pl.Float64(),
        "n": pl.Int64(),
        "gain": pl.Float64(),  # improvement of value over before; positive is better
        "gain_low": pl.Float64(),
        "gain_high": pl.Float64(),
        "gain_p_value": pl.Float64(),  # two-sided, of no gain
        "unpruned_value": pl.Float64(),  # level 0, not recalibrated
        "delta": pl.Float64(),  # value - unpruned_value, over examples scored at both
        "delta_se": pl.Float64(),
        "delta_low": pl.Float64(),
        "delta_high": pl.Float64(),
        "equivalence_low": pl.Float64(),  # 90 %
        "equivalence_high": pl.Float64(),
        "p_value": pl.Float64(),  # two-sided, of no difference from unpruned_value
        "note": pl.String(),  # why a value is null
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
        "parameters": pl.String(),  # JSON, fitted to all scorable rows of the run
        "fit": pl.String(),  # how metrics and fit use different rows
        "fit_rows": pl.Int64(),
        "note": pl.String(),  # why there is no fit
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
        "bin": pl.Int32(),  # one of 10 bins of equal width
        "n": pl.Int64(),
        "mean_confidence": pl.Float64(),
        "accuracy": pl.Float64(),
    },
    is_optional=True,
)
ANALYSIS_TABLES = TableGroup(
    ANALYSES,
    METRICS,
    LOOKS,
    CORRELATIONS,
    OVERLAP_MATRIX,
    RANK_PAIRS,
    RECALIBRATED,
    CALIBRATORS,
    RECALIBRATED_RELIABILITY,
)
"""Statistics that are computed from the tables of a run."""
