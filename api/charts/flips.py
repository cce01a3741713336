"""Chart: the share of changed predictions by level, harmful, beneficial and neutral."""

from typing import Any

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.level_names import REMOVALS, LevelNames
from ..findings.selection import Selection
from ..findings.wording import number, percent
from ..queries import charts
from .definition import ChartDefinition
from .drawing.house_style import BLUE, GREY, INK, SKY, VERMILION, WIDTH, with_house_style
from .drawing.level_axis import candidate_axis
from .drawing.vega_lite import Part, field

KINDS = {
    "harmful": "harmful: right before, wrong now",
    "beneficial": "beneficial: wrong before, right now",
    "neutral": "neutral: wrong before and now",
}


def flips_chart(flips: pl.DataFrame, level: int, names: LevelNames = REMOVALS) -> Part:
    """Shares of predictions that differ from the unpruned model's, stacked by kind.

    Lines are 95 % intervals of the sum. The title describes `level`, or the deepest level if
    `level` is 0. `flips` has at least one pruned level. A comparison has a bar for each candidate.
    """
    if names.is_comparison:
        flips = flips.filter(pl.col("level") > 0)
    known = flips.drop_nulls("flip_rate")
    kinds = list(KINDS.values())
    parts = (
        known.rename({f"{kind}_rate": name for kind, name in KINDS.items()})
        .unpivot(kinds, index="level", variable_name="kind", value_name="share")
        # A share of 0 would still have an outline.
        .filter(pl.col("share") > 0)
        .with_columns(
            position=pl.col("kind").replace_strict({kind: i for i, kind in enumerate(kinds)})
        )
    )
    across = known["level"].to_list()
    x = field(
        "level:O",
        title="candidate" if names.is_comparison else "removed layers (0 = unpruned)",
        scale={"domain": across, "paddingInner": 0.15},
        axis=candidate_axis(names, across)
        if names.is_comparison
        else {"labelAngle": 0, "labelOverlap": True},
    )
    # Kinds also differ without colour: full, light, and empty with a dashed outline.
    legend = {
        "title": None,
        "orient": "bottom",
        "columns": 1,
        "offset": 8,
        "symbolType": "square",
        "labelLimit": WIDTH,
        "symbolSize": 110,
    }
    bars = (
        Part(data=parts)
        .mark("bar", strokeWidth=1)
        .encode(
            x=x,
            y=field(
                "share:Q",
                title="share of predictions changed",
                axis={"format": "%", "tickCount": 5},
            ),
            order="position:Q",
            fill=field("kind:N", scale=_scale([VERMILION, SKY, "white"]), legend=legend),
            stroke=field("kind:N", scale=_scale([VERMILION, BLUE, GREY]), legend=legend),
            strokeDash=field("kind:N", scale=_scale([[1, 0], [1, 0], [2, 2]]), legend=legend),
        )
    )
    marks = [bars]
    totals = known.filter(pl.col("level") > 0).drop_nulls("ci_low")
    if totals.height:
        marks.append(
            Part(data=totals.select("level", "ci_low", "ci_high"))
            .mark("rule", color=INK, strokeWidth=1.5)
            .encode(x=x, y="ci_low:Q", y2="ci_high:Q")
        )
    chart = Part(layer=marks).properties(width=WIDTH, height=200)
    at = level if level in known.filter(pl.col("level") > 0)["level"] else known["level"][-1]
    row = known.filter(level=at).row(0, named=True)
    notes = [f"n = {row['n']}"]
    if row["ci_low"] is not None and names.is_comparison:
        notes = [f"line: 95 % interval of all changed; {notes[0]}"]
    elif row["ci_low"] is not None:
        reach = f"{number(100 * row['ci_low'], 0)} to {percent(row['ci_high'])}"
        notes = [f"line: 95 % interval of all changed ({reach} {names.at([at])});", *notes]
    title = _title(row, names)
    if names.is_comparison:
        others = known.filter(pl.col("level") != at).select("flip_rate", "level").rows()
    else:
        others = known.select("flip_rate", "level").rows()[-1:] if at < across[-1] else []
    title += "".join(f"; {percent(rate)} {names.at([other])}" for rate, other in others)
    return with_house_style(chart, title, notes)


def _title(row: dict[str, Any], names: LevelNames) -> str:
    where = names.at([row["level"]])
    if row["flip_rate"] == 0:
        return f"{where[0].upper()}{where[1:]} no prediction changed"
    kinds = ", ".join(
        f"{percent(row[f'{kind}_rate'])} {kind}" for kind in KINDS if row[f"{kind}_rate"]
    )
    return f"{percent(row['flip_rate'])} of predictions changed {where}: {kinds}"


def _scale(range: list[Any]) -> dict[str, Any]:
    return {"domain": list(KINDS.values()), "range": range}


def _flips(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("level") > 0).drop_nulls("flip_rate").is_empty():
        raise NothingToShow(f"run {selection.run_id} has no pruned level to compare with level 0")
    return flips_chart(rows, selection.level, selection.names)


FLIPS = ChartDefinition(
    "flips",
    "Predictions that pruning changed, harmful and beneficial.",
    ("level",),
    lambda selection: charts.flips(selection.run_id),
    _flips,
    "predictions of single examples",
    candidate_caption="Predictions that changed, harmful and beneficial.",
)
