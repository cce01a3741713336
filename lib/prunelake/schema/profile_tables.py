"""The tables of a profile: the cost of running a model at each level, on one device."""

import polars as pl

from prunelake.schema.table import Table, TableGroup

PROFILE_SUBJECT = ("revision", "strategy", "removal_order", "dtype", "device_name")
"""The columns that identify the subject of a profile. A new profile replaces older profiles with
the same values in all of them."""

MAX_LOAD_AVERAGE = 0.5
"""A CPU counts as busy if more processes than this want a core, on average over a minute."""

PROFILES = Table(
    "profiles",
    "profile: the cost of the levels of one removal order on one device",
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
        "device_name": pl.String(),  # for a CPU, with its number of threads
        "threads": pl.Int32(),
        "load_average": pl.Float64(),  # the machine's load in the minute before
        "torch_version": pl.String(),
        "code_version": pl.String(),
        "batch": pl.Int32(),  # sequences that run at once
        "prompt_tokens": pl.Int32(),  # per sequence, read in one pass
        "new_tokens": pl.Int32(),  # per sequence, generated one after the other
        "repeats": pl.Int32(),
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
        "kv_bytes_per_token": pl.Int64(),  # for one sequence
        "prefill_seconds": pl.List(pl.Float64()),  # one value per repeat; each repeat
        "decode_seconds": pl.List(pl.Float64()),  # runs all levels
        "peak_bytes": pl.Int64(),  # weights, cache and working memory
    },
)
PROFILE_TABLES = TableGroup(PROFILES, EFFICIENCY)
"""The measured cost of a model at each level, on one device."""
