"""Chart: accuracy and a metric against the share of layers, with the undominated levels."""

from typing import Any

import polars as pl

from prunelake.errors import NothingToShow
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.verdicts import Verdict

from ..findings.selection import Selection
from ..findings.wording import (
    counted_parts,
    label,
    number,
    order_name,
    percent,
    removed_modules,
)
from ..queries import comparisons
from .candidate_points import candidate_size_chart
from .definition import ChartDefinition
from .drawing.axis_titles import axis_title, capitalised_label
from .drawing.house_style import GREY, SERIES, VERMILION, WIDTH, with_house_style
from .drawing.vega_lite import Part, field

# Four colours and five shapes give twenty different pairs.
COLOURS = [colour for colour in SERIES if colour != VERMILION]
SHAPES = ["circle", "square", "triangle-up", "cross", "triangle-down"]


def pareto_chart(points: pl.DataFrame, metric: str) -> Part:
    """Accuracy and the metric against the share of layers, or of experts, that remains.

    Undominated levels are filled and joined by a line. A diamond surrounds levels with hidden
    degradation of the metric. Left is cheaper and up is better: the axis is reversed for a metric
    where lower is better. If the number of layers is unknown, the x axis counts removed layers.
    `points` has rows of accuracy.
    """
    drawn = points.with_columns(order=pl.Series([order_name(name) for name in points["strategy"]]))
    shown = [name for name in dict.fromkeys(("accuracy", metric)) if name in set(drawn["metric"])]
    hidden = drawn.filter(metric=metric, verdict=Verdict.hidden_degradation).select(
        "strategy", "level"
    )
    notes = [
        "left is cheaper, up is better (axes are cut and turned",
        "so); filled, on the line:",
        "no other level is as cheap and as good",
    ]
    if drawn["ci_low"].null_count() < drawn.height:
        notes[-1] += "; thin: 95 % interval"
    if hidden.height:
        notes.append(f"in a diamond: hidden degradation of {label(metric)}")
    if metric not in shown:
        notes.append(f"no value of {label(metric)} is known")
    panels = [
        _panel(drawn.filter(metric=name), hidden, name, is_last=name == shown[-1]) for name in shown
    ]
    chart = Part(vconcat=panels, spacing=14)
    return with_house_style(chart, _title(drawn.filter(metric="accuracy"), hidden, metric), notes)


def _panel(points: pl.DataFrame, hidden: pl.DataFrame, metric: str, is_last: bool) -> Part:
    orders = points["order"].unique(maintain_order=True).to_list()
    is_share = not points["remaining_share"].has_nulls()
    parts = counted_parts(points["strategy"][0])
    counted = f"{parts} that remain" if is_share else f"removed {parts}"
    x = field(
        "remaining_share:Q" if is_share else "level:Q",
        title=counted if is_last else None,
        scale={"zero": False, "nice": False, "padding": 10, "reverse": not is_share},
        axis={"labels": is_last, "format": "%" if is_share else "d", "tickCount": 6},
    )
    y = field(
        "value:Q",
        title=None,
        scale={"zero": False, "reverse": METRIC_DEFINITIONS[metric].higher_is_better is False},
        axis={"tickCount": 5, "minExtent": 34, "maxExtent": 34, "format": ".2f"},
    )
    legend = {
        "orient": "bottom",
        "title": None,
        "columns": 2,
        "offset": 8,
        "labelLimit": WIDTH // 2,
        "symbolOpacity": 1,
    }
    base = Part(data=points).encode(
        x=x,
        color=field(
            "order:N", sort=orders, scale={"domain": orders, "range": COLOURS}, legend=legend
        ),
    )
    shape = field("order:N", sort=orders, scale={"domain": orders, "range": SHAPES}, legend=legend)
    front = (
        Part(data=points.filter("is_undominated").unique(["level", "value"], maintain_order=True))
        .mark(
            "line",
            color=GREY,
            strokeWidth=1.5,
            interpolate="step-after" if is_share else "step-before",
        )
        .encode(x=x, y=y)
    )
    marks = [front]
    if points["ci_low"].null_count() < points.height:
        marks.append(base.mark("rule", opacity=0.45).encode(y="ci_low:Q", y2="ci_high:Q"))
    marks += [
        base.mark("point", filled=True, size=50, opacity=1)
        .encode(y=y, shape=shape)
        .filter("datum.is_undominated"),
        base.mark("point", fill="white", size=40, opacity=1)
        .encode(y=y, shape=shape)
        .filter("!datum.is_undominated"),
        Part(data=points.join(hidden, on=["strategy", "level"]))
        .mark("point", shape="diamond", size=190, color=VERMILION, strokeWidth=1.5, opacity=1)
        .encode(x=x, y=y),
    ]
    title = {
        "text": capitalised_label(metric),
        "subtitle": f"{axis_title(metric)}; {points['is_undominated'].sum()} of {points.height} "
        "undominated",
        "fontSize": 12,
        "subtitleFontSize": 10.5,
        "offset": 4,
    }
    return Part(layer=marks).properties(width=WIDTH, height=150, title=title)


def _title(accuracy: pl.DataFrame, hidden: pl.DataFrame, metric: str) -> str:
    """The cheapest stable level, and whether the metric is worse there; or the cheapest level."""
    stable = accuracy.filter(pl.col("level") > 0, verdict=Verdict.equivalent)
    if stable.height:
        best = stable.sort("level", "value").row(-1, named=True)
        worse = hidden.filter(strategy=best["strategy"], level=best["level"]).height
        text = f"Accuracy is stable down to {_cost(best)} ({best['order']})"
        return f"{text}, but {label(metric)} is worse there" if worse else text
    ordered = accuracy.sort("level", "value")
    cheapest, whole = ordered.row(-1, named=True), ordered.row(0, named=True)
    change = (
        f"{number(whole['value'])} with {_cost(whole)}, {number(cheapest['value'])} with "
        f"{_cost(cheapest)}"
    )
    if accuracy["verdict"].null_count() == accuracy.height:
        return f"Published accuracy is {change}"
    return f"No pruned level is shown to keep accuracy: it is {change}"


def _cost(point: dict[str, Any]) -> str:
    if point["remaining_share"] is None:
        return f"{point['level']} {removed_modules(point['strategy'])} removed"
    return f"{percent(point['remaining_share'])} of {removed_modules(point['strategy'])}"


def _pareto_points(selection: Selection) -> BoundQuery:
    if selection.names.is_comparison:
        return comparisons.candidate_sizes(selection.run_id, selection.metric)
    return comparisons.pareto_points(selection.run_id, selection.metric)


def _pareto(rows: pl.DataFrame, selection: Selection) -> Part:
    if METRIC_DEFINITIONS[selection.metric].higher_is_better is None:
        raise NothingToShow(
            f"{selection.metric} has no better direction; give a metric that has one"
        )
    accuracy = rows.filter(metric="accuracy")
    if accuracy.is_empty():
        raise NothingToShow(f"no accuracy of run {selection.run_id} could be computed")
    if selection.names.is_comparison:
        if accuracy["weight_bytes"].null_count() == accuracy.height:
            raise NothingToShow(
                f"the sizes of the candidates of run {selection.run_id} are unknown"
            )
        return candidate_size_chart(rows, selection.metric, selection.names)
    return pareto_chart(rows, selection.metric)


PARETO = ChartDefinition(
    "pareto",
    "Accuracy and a metric against the share of layers that remains.",
    ("metric",),
    _pareto_points,
    _pareto,
    candidate_caption="Accuracy and a metric against the size of the weights.",
)
