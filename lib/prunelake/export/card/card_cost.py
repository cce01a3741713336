"""The section of a model card on memory and speed."""

from typing import Any

import polars as pl

from prunelake.export.card.markdown import table_row
from prunelake.spec import CheckpointKind


def cost_section(kind: CheckpointKind, costs: pl.DataFrame) -> list[str]:
    """The cost of the level beside level 0, one line for each profiled device; empty without any.

    Speeds are medians, with the least and the greatest of the repeats.
    """
    if costs.is_empty():
        return []
    form = (
        "as in a compact checkpoint" if kind is CheckpointKind.portable else "as in this checkpoint"
    )
    return [
        "## Cost",
        "",
        f"Measured with the removed modules really absent, {form}, compared with level 0 on the "
        "same device.",
        "",
        "| device | number format | weights | KV cache a token | peak memory | prefill | decode |",
        "|---|---|---|---|---|---|---|",
        *(
            table_row(
                row["device"],
                row["dtype"],
                f"{row['weight_bytes'] / 1e6:.1f} MB ({_share(row['weight_share'])})",
                f"{row['kv_bytes_per_token'] / 1e3:.1f} kB ({_share(row['kv_share'])})",
                _memory(row),
                _speed(row, "prefill"),
                _speed(row, "decode"),
            )
            for row in costs.iter_rows(named=True)
        ),
        "",
    ]


def _speed(row: dict[str, Any], phase: str) -> str:
    ratio, low, high = (row[f"{phase}_speedup{bound}"] for bound in ("", "_low", "_high"))
    per_second = row[f"{phase}_tokens_per_second"]
    return f"{per_second:.0f} tokens/s ({ratio:.2f} x, {low:.2f} to {high:.2f})"


def _memory(row: dict[str, Any]) -> str:
    if row["peak_bytes"] is None:
        return "not measured"
    return f"{row['peak_bytes'] / 1e6:.0f} MB ({_share(row['memory_share'])})"


def _share(share: float | None) -> str:
    return "none before" if share is None else f"{100 * share:.1f} %"
