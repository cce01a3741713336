"""costs and efficiency: given seconds and bytes, and the ratios that follow from them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.lake.commit import write_profile
from tests.support.runs.lake_rows import rows_of, run_row, write_raw
from tests.support.runs.profile_rows import DAY, profiled, small_profile

RUN: dict[str, Any] = {"removal_order": [2, 1, 0, 3], "levels": [0, 1]}


def devices(lake: Path) -> list[tuple[Any, ...]]:
    """The run's task, level and device of each row of efficiency."""
    rows = rows_of(lake, "select task, level, device from efficiency order by all")
    return [(row["task"], row["level"], row["device"]) for row in rows]


def test_costs_have_size_and_speed_over_the_repeats(tmp_path: Path) -> None:
    profile_id = profiled(tmp_path)
    rows = rows_of(tmp_path, "from costs order by level")
    assert [row["level"] for row in rows] == [0, 1]
    assert rows[1] == {
        "profile_id": profile_id,
        "created_at": DAY,
        "model": "tiny",
        "revision": "0" * 40,
        "strategy": "cosine",
        "dtype": "float32",
        "device": "a CPU, 1 thread",
        "level": 1,
        "parameter_count": 90,
        "weight_bytes": 360,
        "kv_bytes_per_token": 48,
        # 2 sequences of 100 prompt tokens in 1, 1.25 and 1 seconds.
        "prefill_tokens_per_second": 200.0,
        "prefill_tokens_per_second_low": 160.0,
        "prefill_tokens_per_second_high": 200.0,
        # 2 sequences of 10 new tokens in 2, 2.5 and 2 seconds.
        "decode_tokens_per_second": 10.0,
        "decode_tokens_per_second_low": 8.0,
        "decode_tokens_per_second_high": 10.0,
        "peak_bytes": 900,
        # Level 0 takes 4, 5 and 6 seconds, this level 2, 2.5 and 2. The median of the ratios is 2,
        # while the ratio of the medians is 2.5.
        "prefill_speedup": 2.0,
        "prefill_speedup_low": 2.0,
        "prefill_speedup_high": 3.0,
        "decode_speedup": 2.0,
        "decode_speedup_low": 2.0,
        "decode_speedup_high": 3.0,
        "parameter_share": 0.9,
        "weight_share": 0.9,
        "kv_share": 0.75,
        "memory_share": 0.9,
    }
    ratios = [name for name in rows[0] if name.endswith("share") or "speedup" in name]
    assert {rows[0][name] for name in ratios} == {1.0}


def test_a_run_has_the_costs_of_its_levels(tmp_path: Path) -> None:
    run_id = write_raw(tmp_path, run_row(levels=[0, 2], removal_order=[2, 1, 0, 3]))
    profile_id = profiled(tmp_path, decode={0: [4.0], 1: [3.0], 2: [2.0]})
    rows = rows_of(tmp_path, "from efficiency order by level")
    assert [row["level"] for row in rows] == [0, 2]
    costs = rows_of(tmp_path, "from costs where level = 2")[0]
    added = {"run_id": run_id, "task": "demo", "profiled_at": costs.pop("created_at")}
    assert rows[1] == costs | added
    assert rows[1]["profile_id"] == profile_id
    assert rows[1]["decode_speedup"] == 2.0


def test_every_task_of_a_model_has_the_costs_of_one_profile(tmp_path: Path) -> None:
    for task in ("one", "two"):
        write_raw(tmp_path, run_row(task, task=task, **RUN))
    profiled(tmp_path)
    assert devices(tmp_path) == [
        (task, level, "a CPU, 1 thread") for task in ("one", "two") for level in (0, 1)
    ]


@pytest.mark.parametrize(
    "apart",
    [
        {"revision": "1" * 40},
        {"strategy": "mlp:cosine"},
        {"dtype": "bfloat16"},
        {"removal_order": [1, 2, 0, 3]},
    ],
)
def test_profiles_of_other_models_strategies_formats_or_layers_do_not_apply(
    tmp_path: Path, apart: dict[str, Any]
) -> None:
    write_raw(tmp_path, run_row(**RUN | apart))
    profiled(tmp_path)
    assert devices(tmp_path) == []


def test_the_removed_layers_count_and_not_their_order(tmp_path: Path) -> None:
    levels = {"levels": [0, 2], "task": "same"}
    write_raw(tmp_path, run_row("same", **levels | {"removal_order": [1, 2, 3, 0]}))
    write_raw(tmp_path, run_row("other", **levels | {"removal_order": [1, 3, 2, 0]}))
    profiled(tmp_path, decode={0: [1.0], 1: [1.0], 2: [1.0]})
    # Both lack layers 2 and 1, which they remove in different orders.
    assert [(task, level) for task, level, _ in devices(tmp_path)] == [("same", 0), ("same", 2)]


def test_each_device_has_its_own_level_0(tmp_path: Path) -> None:
    write_raw(tmp_path, run_row(**RUN))
    profiled(tmp_path, "cpu", {0: [8.0], 1: [4.0]}, device_name="cpu")
    profiled(tmp_path, "gpu", {0: [4.0], 1: [1.0]}, device_name="gpu")
    rows = rows_of(tmp_path, "select device, decode_speedup from efficiency where level = 1")
    assert {row["device"]: row["decode_speedup"] for row in rows} == {"cpu": 2.0, "gpu": 4.0}


def test_the_profile_with_most_levels_then_the_latest_counts(tmp_path: Path) -> None:
    write_raw(tmp_path, run_row(levels=[0, 1, 2], removal_order=[2, 1, 0, 3]))
    every = {0: [4.0], 1: [2.0], 2: [2.0]}
    # The orders differ after these levels, so that neither profile replaces the other.
    profiled(tmp_path, "whole", every)
    later = profiled(tmp_path, "later", every, removal_order=[2, 1, 3], created_at=DAY + HOUR)
    profiled(tmp_path, "part", {0: [4.0]}, removal_order=[2, 1], created_at=DAY + 2 * HOUR)
    rows = rows_of(tmp_path, "select distinct profile_id from efficiency")
    assert rows == [{"profile_id": later}]


HOUR = timedelta(hours=1)


def test_an_order_shorter_than_a_level_has_no_costs_for_it(tmp_path: Path) -> None:
    write_raw(tmp_path, run_row(levels=[0, 2], removal_order=[2, 1, 0, 3]))
    profiled(tmp_path, decode={0: [1.0], 2: [1.0]}, removal_order=[2])
    assert devices(tmp_path) == []


def test_a_model_without_a_cache_has_no_share_of_it(tmp_path: Path) -> None:
    row, frames = small_profile()
    nothing = pl.lit(0, pl.Int64).alias("kv_bytes_per_token")
    write_profile(tmp_path, row, {"efficiency": frames["efficiency"].with_columns(nothing)})
    assert rows_of(tmp_path, "select kv_share from costs") == [{"kv_share": None}] * 2
