"""The tables of the lake: the grain, the key and the schema of each, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

FORMAT_VERSION = 1
"""Changes when a file of an older version can no longer be read as it stands, and when the code
computes other numbers from the same spec: it is part of a run's identity."""


@dataclass(frozen=True)
class Table:
    """One table: a Parquet file a run, or a profile, whose rows are unique in `key`."""

    name: str
    grain: str
    key: tuple[str, ...]
    schema: Mapping[str, pl.DataType]
    is_optional: bool = False  # a run without such rows has no such file

    @property
    def owner(self) -> str:
        """The column that says which run, or profile, a row is of."""
        return self.key[0]

    def frame(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        """The rows as a frame of exactly this table's columns and types."""
        return pl.DataFrame(rows, schema=dict(self.schema), orient="row", strict=True)


RUNS = Table(
    "runs",
    "one sweep of one model on one task",
    ("run_id",),
    {
        "run_id": pl.String(),
        "created_at": pl.Datetime("us", "UTC"),
        "model": pl.String(),
        "revision": pl.String(),
        "architecture": pl.String(),
        "strategy": pl.String(),
        "task": pl.String(),
        "split": pl.String(),
        "example_count": pl.Int32(),
        "levels": pl.List(pl.Int32()),
        "layer_count": pl.Int32(),
        "removal_order": pl.List(pl.Int32()),
        "dtype": pl.String(),
        "device": pl.String(),
        "code_version": pl.String(),
        "spec": pl.String(),  # JSON of the SweepSpec, as asked for
        "identity": pl.String(),  # JSON of the RunIdentity; run_id is its hash
        "duration_s": pl.Float64(),
        "forward_tokens": pl.Int64(),  # tokens through whole models: layer passes / layers
        "files": pl.List(
            pl.Struct({"table": pl.String(), "rows": pl.Int64(), "sha256": pl.String()})
        ),
    },
)

LAYERS = Table(
    "layers",
    "run x attention layer",
    ("run_id", "layer"),
    {
        "run_id": pl.String(),
        "layer": pl.Int32(),  # from the input, 0 first
        "importance": pl.Float64(),
        "rank": pl.Int32(),  # place in the removal order, 0 is removed first
    },
)

EXAMPLES = Table(
    "examples",
    "run x example",
    ("run_id", "example_id"),
    {
        "run_id": pl.String(),
        "example_id": pl.String(),  # split:row
        "position": pl.Int32(),  # place in the run's selection, from 0
        "prompt": pl.String(),
        "options": pl.List(pl.String()),
        "gold": pl.Int32(),
        "prompt_tokens": pl.List(pl.String()),  # texts, without special tokens
    },
)

PREDICTIONS = Table(
    "predictions",
    "run x level x example",
    ("run_id", "level", "example_id"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "example_id": pl.String(),
        "option_log_likelihoods": pl.List(pl.Float64()),  # nats, summed over the option's tokens
        "option_bytes": pl.List(pl.Int32()),  # UTF-8, without the space before the option
        "gold": pl.Int32(),
        "prediction": pl.Int32(),  # highest log-likelihood
        "prediction_norm": pl.Int32(),  # highest log-likelihood per byte
        "is_correct": pl.Boolean(),
        "is_correct_norm": pl.Boolean(),
        "confidence": pl.Float64(),  # softmax over the options, of the predicted one
    },
)

ATTRIBUTIONS = Table(
    "attributions",
    "run x level x example x method x seed",
    ("run_id", "level", "example_id", "method", "seed"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "example_id": pl.String(),
        "method": pl.String(),  # also `random`: a seeded ranking to beat
        "seed": pl.Int32(),  # 0 for methods that draw nothing
        "target": pl.Int32(),  # the option explained: the level's own prediction
        "scores": pl.List(pl.Float32()),  # nats per prompt token
    },
)

DELETIONS = Table(
    "deletions",
    "run x level x example x method x seed x operator x kind x fraction",
    ("run_id", "level", "example_id", "method", "seed", "operator", "kind", "fraction"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "example_id": pl.String(),
        "method": pl.String(),
        "seed": pl.Int32(),
        "operator": pl.String(),  # delete_text or replace
        "kind": pl.String(),  # comprehensiveness or sufficiency
        "fraction": pl.Float64(),
        "top_count": pl.Int32(),  # floor(fraction x tokens), at least 1: deleted, or all that stays
        "probability_full": pl.Float64(),
        "probability_perturbed": pl.Float64(),
    },
)

# In the tables below, '' stands for a method, operator or variant that does not apply: a key has no
# nulls. The views show it as null.
CELL = ("metric", "method", "operator", "variant")
CELL_SCHEMA = {name: pl.String() for name in CELL}

BOUNDS = Table(
    "bounds",
    "run x level x example x operator x kind",
    ("run_id", "level", "example_id", "operator", "kind"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "example_id": pl.String(),
        "operator": pl.String(),
        "kind": pl.String(),
        "lower": pl.Float64(),  # least mean drop over the fractions that the search found
        "upper": pl.Float64(),  # greatest
        "beam_width": pl.Int32(),
    },
    is_optional=True,
)

REPORTED = Table(
    "reported",
    "run x level x metric (x method, operator, variant)",
    ("run_id", "level", *CELL),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        **CELL_SCHEMA,
        "value": pl.Float64(),  # as others published it, without the examples behind it
    },
    is_optional=True,
)

TABLES: Mapping[str, Table] = {
    t.name: t
    for t in (
        RUNS,
        LAYERS,
        EXAMPLES,
        PREDICTIONS,
        ATTRIBUTIONS,
        DELETIONS,
        BOUNDS,
        REPORTED,
    )
}
"""What was measured; never computed again."""

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
    ("run_id", "level", *CELL),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        **CELL_SCHEMA,
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
    ("run_id", *CELL, "scope"),
    {
        "run_id": pl.String(),
        **CELL_SCHEMA,
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

DERIVED: Mapping[str, Table] = {
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

# What a profile is of: one that is measured again takes the place of the earlier one.
SUBJECT = ("revision", "strategy", "removal_order", "dtype", "device_name")

PROFILES = Table(
    "profiles",
    "profile: what the levels of one removal order cost on one device",
    ("profile_id",),
    {
        "profile_id": pl.String(),
        "created_at": pl.Datetime("us", "UTC"),
        "model": pl.String(),
        "revision": pl.String(),
        "architecture": pl.String(),
        "strategy": pl.String(),
        "layer_count": pl.Int32(),
        "removal_order": pl.List(pl.Int32()),
        "levels": pl.List(pl.Int32()),
        "dtype": pl.String(),
        "device": pl.String(),  # as torch names it: cpu, cuda:1
        "device_name": pl.String(),  # of a GPU; of a CPU with the threads that computed
        "threads": pl.Int32(),
        "load_average": pl.Float64(),  # of the machine, over the minute before
        "torch_version": pl.String(),
        "code_version": pl.String(),
        "batch": pl.Int32(),  # sequences at once
        "prompt_tokens": pl.Int32(),  # of each sequence, in one pass
        "new_tokens": pl.Int32(),  # of each sequence, one after the other
        "repeats": pl.Int32(),
        "files": pl.List(
            pl.Struct({"table": pl.String(), "rows": pl.Int64(), "sha256": pl.String()})
        ),
    },
)

EFFICIENCY = Table(
    "efficiency",
    "profile x level",
    ("profile_id", "level"),
    {
        "profile_id": pl.String(),
        "level": pl.Int32(),
        "parameter_count": pl.Int64(),
        "weight_bytes": pl.Int64(),
        "kv_bytes_per_token": pl.Int64(),  # of one sequence
        "prefill_seconds": pl.List(pl.Float64()),  # a number a repeat; repeat i of all levels
        "decode_seconds": pl.List(pl.Float64()),  # ran side by side
        "peak_bytes": pl.Int64(),  # weights, cache and what computing takes
    },
)

COSTS: Mapping[str, Table] = {t.name: t for t in (PROFILES, EFFICIENCY)}
"""What running a model costs without the layers of a level; a profile exists once its `profiles`
file does."""

EVERY: Mapping[str, Table] = {**TABLES, **DERIVED, **COSTS}
"""All tables of a lake."""
