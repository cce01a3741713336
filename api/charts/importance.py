"""Chart: the layers of a model with their importance and the level that removes them."""

import altair as alt
import polars as pl

from .drawing import GREY, INK, SEQUENTIAL, VERMILION, with_house_style


def importance_chart(layers: pl.DataFrame, removed: int) -> alt.LayerChart:
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
    x = alt.X("column:O", axis=None, scale=alt.Scale(paddingInner=0.08))
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0.5))
    base = alt.Chart(cells).encode(x=x, y=y)
    colour = alt.Color(
        "importance:Q",
        scale=alt.Scale(
            type="log" if is_log else "linear", range=list(SEQUENTIAL), interpolate="rgb"
        ),
        legend=alt.Legend(
            title=f"importance{' (log scale)' if is_log else ''}",
            orient="bottom",
            direction="horizontal",
            offset=4,
            gradientLength=200,
            gradientThickness=10,
            format=".2~g",
            tickCount=3,
        ),
    )
    rectangles = base.mark_rect().encode(color=colour)
    frames = base.mark_rect(filled=False, stroke=VERMILION, strokeWidth=2).transform_filter(
        "datum.is_removed"
    )
    ranks = base.mark_text(fontSize=11, fontWeight="bold", color=INK).encode(text="removed_at:Q")
    numbers = base.mark_text(fontSize=9, dy=-19, color=GREY).encode(text="layer:Q")
    chart = alt.LayerChart(layer=[rectangles, frames, ranks, numbers]).properties(
        width=22 * per_row, height=42 * row_count
    )
    title = f"Layer {order[0]} is removed first, layer {order[-1]} would be last"
    notes = [
        "above a cell: the layer, counted from the input;",
        "in a cell: the first level without its attention;",
        f"framed: removed at the deepest level evaluated ({removed})",
    ]
    return with_house_style(chart, title, notes, 22 * per_row)
