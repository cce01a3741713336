"""Profiles for tests: the cost of levels, without measuring it."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.identity import content_hash
from prunelake.lake.commit import write_profile
from prunelake.lake.read import read_table
from prunelake.lake.storage.location import Location
from prunelake.schema.profile_tables import EFFICIENCY

Seconds = Mapping[int, Sequence[float]]

DAY = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def small_profile(
    name: str = "profile", decode: Seconds | None = None, **columns: Any
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """A row of profiles, and a row of efficiency for each level in `decode`.

    Prefill takes half the time of decoding. Of 100 parameters, each level has 10 fewer than the
    level before.
    """
    decode = {0: [4.0, 5.0, 6.0], 1: [2.0, 2.5, 2.0]} if decode is None else decode
    profile_id = content_hash(name)[:16]
    row = {
        "profile_id": profile_id,
        "created_at": DAY,
        "model": "tiny",
        "revision": "0" * 40,
        "architecture": "llama",
        "strategy": "cosine",
        "layer_count": 4,
        "removal_order": [2, 1, 0, 3],
        "levels": [*decode],
        "dtype": "float32",
        "device": "cpu",
        "device_name": "a CPU, 1 thread",
        "threads": 1,
        "load_average": 0.5,
        "torch_version": "2.13.0",
        "code_version": "0.1.0",
        "batch": 2,
        "prompt_tokens": 100,
        "new_tokens": 10,
        "repeats": 3,
    } | columns
    rows = [
        {
            "profile_id": profile_id,
            "level": level,
            "parameter_count": 100 - 10 * level,
            "weight_bytes": 400 - 40 * level,
            "kv_bytes_per_token": 64 - 16 * level,
            "prefill_seconds": [second / 2 for second in seconds],
            "decode_seconds": [*seconds],
            "peak_bytes": 1000 - 100 * level,
        }
        for level, seconds in decode.items()
    ]
    return row, {"efficiency": EFFICIENCY.frame(rows)}


def profile_ids(lake: Location) -> list[str]:
    return sorted(read_table(lake, "profiles")["profile_id"])


def profiled(
    lake: Location, name: str = "profile", decode: Seconds | None = None, **columns: Any
) -> str:
    """Write the profile of `small_profile` to the lake; its profile_id."""
    row, frames = small_profile(name, decode, **columns)
    write_profile(lake, row, frames)
    return str(row["profile_id"])
