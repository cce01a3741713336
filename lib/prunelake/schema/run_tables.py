"""The tables of a run: its measurements."""

import polars as pl

from prunelake.schema.table import METRIC_KEY, METRIC_KEY_SCHEMA, Table, TableGroup

COPIED_DTYPE = pl.List(
    pl.Struct({"run_id": pl.String(), "table": pl.String(), "cells": pl.Int64()})
)
"""The column `copied`: for each other run and table, the number of rows that were copied."""

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
        "spec": pl.String(),  # JSON of the SweepSpec of the user, with the rows of its split
        "identity": pl.String(),  # JSON of the RunIdentity; run_id is its hash
        "duration_s": pl.Float64(),
        "forward_tokens": pl.Int64(),  # tokens through whole models: layer passes / layers
        "copied": COPIED_DTYPE,  # rows of other runs, which cost no forward tokens here
    },
)
LAYERS = Table(
    "layers",
    "run x attention layer",
    ("run_id", "layer"),
    {
        "run_id": pl.String(),
        "layer": pl.Int32(),  # counted from the input, from 0
        "importance": pl.Float64(),
        "rank": pl.Int32(),  # position in the removal order; 0 is removed first
    },
)
EXAMPLES = Table(
    "examples",
    "run x example",
    ("run_id", "example_id"),
    {
        "run_id": pl.String(),
        "example_id": pl.String(),  # split:row
        "position": pl.Int32(),  # position in the run's selection, from 0
        "prompt": pl.String(),
        "options": pl.List(pl.String()),
        "gold": pl.Int32(),
        "prompt_tokens": pl.List(pl.String()),  # as text, without special tokens
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
        "option_log_likelihoods": pl.List(
            pl.Float64()
        ),  # nats, summed over the tokens of an option
        # UTF-8 length without the space before it. Null: a prediction from elsewhere, whose options
        # were not scored. Such a row has no log-likelihoods, and `confidence` is null or as stated.
        "option_bytes": pl.List(pl.Int32()),
        "gold": pl.Int32(),
        "prediction": pl.Int32(),  # option with the highest log-likelihood
        "prediction_norm": pl.Int32(),  # option with the highest log-likelihood per byte
        "is_correct": pl.Boolean(),
        "is_correct_norm": pl.Boolean(),
        "confidence": pl.Float64(),  # softmax over the options, at `prediction`
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
        "method": pl.String(),  # or `random`, a seeded ranking as the baseline
        "seed": pl.Int32(),  # 0 for methods that sample nothing
        "target": pl.Int32(),  # the explained option: what this level predicts
        "scores": pl.List(pl.Float32()),  # nats, one per prompt token
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
        "top_count": pl.Int32(),  # tokens deleted or kept: floor(fraction x tokens), at least 1
        "probability_full": pl.Float64(),
        "probability_perturbed": pl.Float64(),
    },
)
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
        "lower": pl.Float64(),  # smallest mean drop over the fractions that was found
        "upper": pl.Float64(),  # largest
        "beam_width": pl.Int32(),
    },
    is_optional=True,
)
TEXTS = Table(
    "texts",
    "run x level x example",
    ("run_id", "level", "example_id"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        "example_id": pl.String(),
        "prompt_nll": pl.Float64(),  # nats, summed over `predicted_tokens` tokens of the prompt
        # All tokens of the prompt; without special tokens in front, all but the first.
        "predicted_tokens": pl.Int32(),
        "generated_ids": pl.List(
            pl.Int32()
        ),  # greedy, behind the prompt; no token that ends a text
        "generated": pl.String(),  # the text of these tokens
    },
    is_optional=True,
)
REPORTED = Table(
    "reported",
    "run x level x metric (x method, operator, variant)",
    ("run_id", "level", *METRIC_KEY),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),
        **METRIC_KEY_SCHEMA,
        "value": pl.Float64(),  # as published elsewhere, without examples
    },
    is_optional=True,
)
LEVELS = Table(
    "levels",
    "run x level, of runs whose levels are candidates",
    ("run_id", "level"),
    {
        "run_id": pl.String(),
        "level": pl.Int32(),  # 0 is the baseline
        "label": pl.String(),  # distinct within a run
        "model": pl.String(),
        "revision": pl.String(),
        "dtype": pl.String(),
        "strategy": pl.String(),  # the order of the removal; '' if nothing is removed
        "removed_layers": pl.List(pl.Int32()),
        "weight_bytes": pl.Int64(),  # in this number format; null if unknown
        "shares_tokens": pl.Boolean(),  # whether all prompts have the tokens that level 0 has
        "source_run_id": pl.String(),  # the sweep whose level this is; '' for an import
        "source_level": pl.Int32(),
    },
    is_optional=True,
)
RUN_TABLES = TableGroup(
    RUNS, LAYERS, EXAMPLES, PREDICTIONS, ATTRIBUTIONS, DELETIONS, BOUNDS, TEXTS, REPORTED, LEVELS
)
"""The measurements of a run; they are never computed again."""

CELL_TABLES = (PREDICTIONS, ATTRIBUTIONS, DELETIONS, BOUNDS, TEXTS)
"""The tables whose rows are cells: measurements of one example at one level."""
