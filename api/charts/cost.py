"""Chart: the speed-up of each level, and the share of memory that it still needs."""

import textwrap
from typing import Any

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.selection import Selection
from ..findings.wording import interval, number, percent
from ..queries import charts
from .definition import ChartDefinition
from .drawing.house_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    WIDTH,
    rule_data,
    with_house_style,
)
from .drawing.vega_lite import Part, field

SPEEDS = {"decoding": "decode_speedup", "prefill": "prefill_speedup"}
SHARES = {"weights": "weight_share", "KV cache": "kv_share", "peak memory": "memory_share"}
SHAPES = ["circle", "square", "triangle-up"]


def cost_chart(costs: pl.DataFrame, level: int) -> Part:
    """Speed-ups of decoding and prefill, and the remaining shares of memory, over levels.

    Bars reach from the smallest to the largest value of the repeats. The title describes `level`,
    or the deepest level if `level` is 0. `costs` holds one device and at least one pruned level.
    """
    speeds = pl.concat(
        costs.select(
            "level",
            pl.lit(name).alias("quantity"),
            pl.col(column).alias("value"),
            pl.col(f"{column}_low").alias("low"),
            pl.col(f"{column}_high").alias("high"),
        )
        for name, column in SPEEDS.items()
    )
    shares = pl.concat(
        costs.select("level", pl.lit(name).alias("quantity"), pl.col(column).alias("value"))
        for name, column in SHARES.items()
    ).drop_nulls("value")
    panels = [
        _panel(speeds, "Speed-up", "times as fast as unpruned", [VERMILION, BLUE], is_last=False),
        _panel(shares, "Memory", "share left", [GREEN, PURPLE, ORANGE], is_last=True),
    ]
    stacked = Part(vconcat=panels, spacing=14)
    chart: Part = stacked.properties(
        resolve={"scale": {"color": "independent", "shape": "independent"}}
    )
    about = costs.row(0, named=True)
    settings = (
        f"batch {about['batch']}, {about['prompt_tokens']} prompt and {about['new_tokens']} new"
    )
    notes = textwrap.wrap(f"{settings} tokens, {about['dtype']}, {about['device']}", 52)
    if about["repeats"] > 1:
        notes.insert(0, f"bars: least to greatest of {about['repeats']} repeats")
    notes[-1] += ";"
    notes.append("dotted: as unpruned; axes need not start at 0")
    pruned = costs.filter(pl.col("level") > 0)
    described = pruned.filter(level=level) if level in pruned["level"] else pruned.tail(1)
    return with_house_style(chart, _title(described.row(0, named=True)), notes)


def _panel(
    points: pl.DataFrame, heading: str, unit: str, colours: list[str], is_last: bool
) -> Part:
    names = points["quantity"].unique(maintain_order=True).to_list()
    x = field(
        "level:Q",
        title="removed layers (0 = unpruned)" if is_last else None,
        scale={"nice": False, "padding": 6},
        axis={
            "values": points["level"].unique().sort().to_list(),
            "format": "d",
            "labels": is_last,
            "labelOverlap": True,
            "labelFlush": False,
        },
    )
    y = field(
        "value:Q",
        title=None,
        scale={"zero": False, "nice": True},
        axis={
            "tickCount": 5,
            "minExtent": 34,
            "maxExtent": 34,
            "format": "%" if is_last else ".2f",
        },
    )
    legend = {"orient": "bottom", "title": None, "columns": 3, "offset": 8, "symbolOpacity": 1}
    colour = field("quantity:N", scale={"domain": names, "range": colours}, legend=legend)
    shape = field("quantity:N", scale={"domain": names, "range": SHAPES}, legend=legend)
    base = Part(data=points).encode(x=x, color=colour)
    marks = [
        Part(data=rule_data(1.0)).mark("rule", color=GREY, strokeDash=[1, 3]).encode(y="value:Q"),
        base.mark("line", strokeWidth=1.5).encode(y=y),
    ]
    if "low" in points.columns:
        # The widths differ, so that both bars are visible where they overlap.
        width = field("quantity:N", scale={"domain": names, "range": [5, 1.5]}, legend=None)
        marks.append(
            base.mark("rule", opacity=0.5).encode(y="low:Q", y2="high:Q", strokeWidth=width)
        )
    marks.append(base.mark("point", filled=True, size=40, opacity=1).encode(y=y, shape=shape))
    title = {
        "text": heading,
        "subtitle": unit,
        "fontSize": 12,
        "subtitleFontSize": 10.5,
        "offset": 4,
    }
    return Part(layer=marks).properties(width=WIDTH, height=120, title=title)


def _title(row: dict[str, Any]) -> str:
    reach = interval(row["decode_speedup_low"], row["decode_speedup_high"])
    text = (
        f"At level {row['level']} decoding is {number(row['decode_speedup'])} times as fast "
        f"({reach}), with {percent(row['weight_share'])} of the weights"
    )
    if row["kv_share"] is None:
        return text
    return f"{text} and {percent(row['kv_share'])} of the KV cache"


def _cost(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("level") > 0).is_empty():
        raise NothingToShow(f"no pruned level of run {selection.run_id} was profiled")
    return cost_chart(rows, selection.level)


COST = ChartDefinition(
    "cost",
    "What a level saves: speed, weights, KV cache and peak memory.",
    ("level",),
    lambda selection: charts.efficiency(selection.run_id),
    _cost,
    "measured cost (prunelake profile measures it)",
    "their costs are not measured; the chart pareto shows their sizes",
)
