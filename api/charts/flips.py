"""Chart: the share of changed predictions by level, harmful, beneficial and neutral."""

from typing import Any

import altair as alt
import polars as pl

from ..findings.wording import number, percent
from .drawing import BLUE, GREY, INK, SKY, VERMILION, WIDTH, with_house_style

KINDS = {
    "harmful": "harmful: right before, wrong now",
    "beneficial": "beneficial: wrong before, right now",
    "neutral": "neutral: wrong before and now",
}


def flips_chart(flips: pl.DataFrame, level: int) -> alt.LayerChart:
    """Shares of predictions that differ from the unpruned model's, stacked by kind.

    Lines are 95 % intervals of the sum. The title describes `level`, or the deepest level if
    `level` is 0. `flips` has at least one pruned level.
    """
    known = flips.drop_nulls("flip_rate")
    names = list(KINDS.values())
    parts = (
        known.rename({f"{kind}_rate": name for kind, name in KINDS.items()})
        .unpivot(names, index="level", variable_name="kind", value_name="share")
        # A share of 0 would still have an outline.
        .filter(pl.col("share") > 0)
        .with_columns(position=pl.col("kind").replace_strict({n: i for i, n in enumerate(names)}))
    )
    x = alt.X(
        "level:O",
        title="removed layers (0 = unpruned)",
        scale=alt.Scale(domain=known["level"].to_list(), paddingInner=0.15),
        axis=alt.Axis(labelAngle=0, labelOverlap=True),
    )
    # Kinds also differ without colour: full, light, and empty with a dashed outline.
    legend = alt.Legend(
        title=None, orient="bottom", columns=1, offset=8, symbolType="square", symbolSize=110
    )
    bars = (
        alt.Chart(parts)
        .mark_bar(strokeWidth=1)
        .encode(
            x=x,
            y=alt.Y(
                "share:Q",
                title="share of predictions changed",
                axis=alt.Axis(format="%", tickCount=5),
            ),
            order="position:Q",
            fill=alt.Fill("kind:N", scale=_scale([VERMILION, SKY, "white"]), legend=legend),
            stroke=alt.Stroke("kind:N", scale=_scale([VERMILION, BLUE, GREY]), legend=legend),
            strokeDash=alt.StrokeDash(
                "kind:N", scale=_scale([[1, 0], [1, 0], [2, 2]]), legend=legend
            ),
        )
    )
    marks = [bars]
    totals = known.filter(pl.col("level") > 0).drop_nulls("ci_low")
    if totals.height:
        marks.append(
            alt.Chart(totals.select("level", "ci_low", "ci_high"))
            .mark_rule(color=INK, strokeWidth=1.5)
            .encode(x=x, y="ci_low:Q", y2="ci_high:Q")
        )
    chart = alt.LayerChart(layer=marks).properties(width=WIDTH, height=200)
    at = level if level in known.filter(pl.col("level") > 0)["level"] else known["level"][-1]
    row = known.filter(level=at).row(0, named=True)
    notes = [f"n = {row['n']}"]
    if row["ci_low"] is not None:
        reach = f"{number(100 * row['ci_low'], 0)} to {percent(row['ci_high'])}"
        notes = [f"line: 95 % interval of all changed ({reach} at level {at});", *notes]
    title = _title(row)
    if at < known["level"][-1]:
        title += f"; {percent(known['flip_rate'][-1])} at level {known['level'][-1]}"
    return with_house_style(chart, title, notes)


def _title(row: dict[str, Any]) -> str:
    if row["flip_rate"] == 0:
        return f"At level {row['level']} no prediction changed"
    kinds = ", ".join(
        f"{percent(row[f'{kind}_rate'])} {kind}" for kind in KINDS if row[f"{kind}_rate"]
    )
    return f"{percent(row['flip_rate'])} of predictions changed at level {row['level']}: {kinds}"


def _scale(range: list[Any]) -> alt.Scale:
    return alt.Scale(domain=list(KINDS.values()), range=range)
