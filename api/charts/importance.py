"""Chart: the layers of a model, or its experts, with their importance, as they are removed."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ..findings.selection import Selection
from ..findings.wording import percent
from ..queries import charts
from .definition import ChartDefinition
from .drawing.house_style import GREY, INK, SEQUENTIAL, VERMILION, with_house_style
from .drawing.vega_lite import Part, field

EXPERT_WIDTH = 480
"""px for the experts of a block."""


def chart_of_importance(layers: pl.DataFrame, run: Mapping[str, Any], removed: int) -> Part:
    """The chart of the layers or experts that a run removes; `removed` is its deepest level."""
    if str(run.get("strategy") or "").startswith("expert:"):
        return expert_importance_chart(layers, run["layer_count"], removed)
    return importance_chart(layers, removed)


def expert_importance_chart(layers: pl.DataFrame, experts: int, removed: int) -> Part:
    """One cell for each expert, a row for each block with experts.

    The colour is the importance. A frame marks the `removed` experts of each block that the deepest
    level removes.
    """
    blocks = layers.height // experts
    cells = layers.select(
        "importance",
        (pl.col("layer") // experts).alias("block"),
        (pl.col("layer") % experts).alias("expert"),
        (pl.col("rank") < removed * blocks).alias("is_removed"),
    )
    side = max(4, min(22, EXPERT_WIDTH // experts))
    base = Part(data=cells).encode(
        x=field("expert:O", title="expert", axis={"labelOverlap": True, "labelAngle": 0}),
        y=field("block:O", title="block with experts", axis={"labelOverlap": True}),
    )
    legend = {"orient": "bottom", "gradientLength": 200, "gradientThickness": 10, "tickCount": 3}
    rectangles = base.mark("rect").encode(
        color=field(
            "importance:Q",
            scale={"range": list(SEQUENTIAL), "interpolate": "rgb"},
            legend=legend,
        )
    )
    frames = base.mark("rect", filled=False, stroke=VERMILION, strokeWidth=1.5).filter(
        "datum.is_removed"
    )
    chart = Part(layer=[rectangles, frames]).properties(width=side * experts, height=side * blocks)
    total = float(cells["importance"].sum())
    share = float(cells.filter("is_removed")["importance"].sum()) / total if total else 0.0
    title = f"{removed} of {experts} experts of each block go; they have {percent(share)} of the "
    notes = [f"framed: removed at the deepest level evaluated ({removed})"]
    return with_house_style(chart, f"{title}importance", notes, max(side * experts, 220))


def importance_chart(layers: pl.DataFrame, removed: int) -> Part:
    """One cell for each layer, in layer order, with the first level that removes the layer.

    The colour is the importance, on a log scale if all are positive. A frame marks the `removed`
    layers that the deepest level removes.
    """
    size = layers.height
    row_count = -(-size // 16)
    per_row = -(-size // row_count)
    is_log = bool((layers["importance"] > 0).all())
    cells = layers.select(
        "layer",
        "importance",
        (pl.col("rank") + 1).alias("removed_at"),
        (pl.col("layer") // per_row).alias("row"),
        (pl.col("layer") % per_row).alias("column"),
        (pl.col("rank") < removed).alias("is_removed"),
    )
    order = layers.sort("rank")["layer"].to_list()
    x = field("column:O", axis=None, scale={"paddingInner": 0.08})
    y = field("row:O", axis=None, scale={"paddingInner": 0.5})
    base = Part(data=cells).encode(x=x, y=y)
    colour = field(
        "importance:Q",
        scale={
            "type": "log" if is_log else "linear",
            "range": list(SEQUENTIAL),
            "interpolate": "rgb",
        },
        legend={
            "title": f"importance{' (log scale)' if is_log else ''}",
            "orient": "bottom",
            "direction": "horizontal",
            "offset": 4,
            "gradientLength": 200,
            "gradientThickness": 10,
            "format": ".2~g",
            "tickCount": 3,
        },
    )
    rectangles = base.mark("rect").encode(color=colour)
    frames = base.mark("rect", filled=False, stroke=VERMILION, strokeWidth=2).filter(
        "datum.is_removed"
    )
    ranks = base.mark("text", fontSize=11, fontWeight="bold", color=INK).encode(text="removed_at:Q")
    numbers = base.mark("text", fontSize=10, dy=-19, color=GREY).encode(text="layer:Q")
    chart = Part(layer=[rectangles, frames, ranks, numbers]).properties(
        width=22 * per_row, height=42 * row_count
    )
    title = f"Layer {order[0]} is removed first, layer {order[-1]} would be last"
    notes = [
        "above a cell: the layer, counted from the input;",
        "in a cell: the first level without its attention;",
        f"framed: removed at the deepest level evaluated ({removed})",
    ]
    return with_house_style(chart, title, notes, 22 * per_row)


def _importance(rows: pl.DataFrame, selection: Selection) -> Part:
    return chart_of_importance(rows, selection.run, max(selection.run["levels"]))


IMPORTANCE = ChartDefinition(
    "importance",
    "Importance of layers or experts, and the order in which they are removed.",
    (),
    lambda selection: charts.layer_importance(selection.run_id),
    _importance,
    "importance of layers",
    "layers are not removed in an order",
)
