"""The tables of a profile: what running a model costs without the layers of a level."""

from collections.abc import Mapping

import polars as pl

from prunelake.schema.table import Table

# What a profile is of: one that is measured again takes the place of the earlier one.
PROFILE_SUBJECT = ("revision", "strategy", "removal_order", "dtype", "device_name")
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
PROFILE_TABLES: Mapping[str, Table] = {t.name: t for t in (PROFILES, EFFICIENCY)}
"""What running a model costs without the layers of a level; a profile exists once its `profiles`
file does."""
