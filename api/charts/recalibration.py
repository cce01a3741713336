"""Chart: a metric of confidence before and after recalibration, by level."""

from typing import Any

import polars as pl

from prunelake.errors import NothingToShow
from prunelake.schema.calibrators import (
    CALIBRATOR_NAMES,
    RECALIBRATED_METRICS,
    UNPRUNED_TEMPERATURE,
)

from ..findings.level_names import REMOVALS, LevelNames
from ..findings.selection import Selection
from ..findings.wording import label, number
from ..queries import charts
from .definition import ChartDefinition
from .drawing.axis_titles import axis_title, capitalised_label
from .drawing.house_style import BLUE, FAINT, GREY, INK, WIDTH, rule_data, with_house_style
from .drawing.level_axis import level_axis
from .drawing.vega_lite import Part, field

HEIGHT = 110


def recalibration_chart(
    rows: pl.DataFrame, metric: str, level: int, names: LevelNames = REMOVALS
) -> Part:
    """One panel for each calibrator: the metric before (grey) and after (blue), by level.

    The panels share their axes. Calibrators without a value of the metric are left out.
    """
    known = rows.drop_nulls("value")
    present = [name for name in CALIBRATOR_NAMES if known.filter(calibrator=name).height]
    domain = _domain(known)
    panels = [
        _panel(known.filter(calibrator=name), name, domain, names, is_last=name == present[-1])
        for name in present
    ]
    count = max(known["n"].to_list())
    at_zero = names.in_baseline_words("unpruned")
    notes = [
        "grey: before; blue: after, each example by a calibrator",
        f"fitted to other examples; bars: 95 % interval; n = {count};",
        f"{axis_title(metric)}; dotted: {at_zero}, before;",
        "axes need not start at 0",
    ]
    chart = Part(vconcat=panels, spacing=12)
    return with_house_style(
        chart, f"{capitalised_label(metric)} {_change_text(known, level, names)}", notes
    )


def _change_text(known: pl.DataFrame, level: int, names: LevelNames) -> str:
    """The metric before and after recalibration at a level, or the deepest recalibrated level."""
    levels = known["level"].unique().sort().to_list()
    shown = level if level in levels else levels[-1]
    by_calibrator = {
        row["calibrator"]: row for row in known.filter(level=shown).iter_rows(named=True)
    }
    before = next(iter(by_calibrator.values()))["before"]
    where = f"of {names.baseline}" if shown == 0 else names.at([shown])
    text = f"{where} is {number(before, 3)}"
    if "temperature" in by_calibrator:
        text += f", and {number(by_calibrator['temperature']['value'], 3)} at its own temperature"
    if shown > 0 and UNPRUNED_TEMPERATURE in by_calibrator:
        text += f", {number(by_calibrator[UNPRUNED_TEMPERATURE]['value'], 3)} at {names.baseline}'s"
    return text


def _panel(
    points: pl.DataFrame, name: str, domain: list[float], names: LevelNames, is_last: bool
) -> Part:
    across = list(names.labels) if names.is_comparison else points["level"].to_list()
    x = level_axis(names, across, is_labelled=is_last, nice=False, zero=False, padding=8)
    scale = {"domain": domain, "zero": False, "nice": True}
    axis = {"tickCount": 4, "minExtent": 34, "maxExtent": 34, "format": ".2f"}
    base = Part(data=points)
    offset = 8 if names.is_comparison else 3
    marks: list[Part] = []
    unpruned = points["unpruned_value"].drop_nulls()
    if len(unpruned):
        marks.append(
            Part(data=rule_data(unpruned[0]))
            .mark("rule", color=GREY, strokeDash=[1, 3])
            .encode(y="value:Q")
        )
    for column, low, high, colour, x_offset in (
        ("before", "before_low", "before_high", GREY, 0),
        ("value", "ci_low", "ci_high", BLUE, offset),
    ):
        shift: dict[str, Any] = {"xOffset": x_offset} if x_offset else {}
        if points[low].null_count() < points.height:
            marks.append(
                base.mark("rule", color=colour, strokeWidth=1.5, opacity=0.7, **shift).encode(
                    x=x,
                    y=field(f"{low}:Q", scale=scale, axis=axis, title=None),
                    y2=f"{high}:Q",
                )
            )
        y = field(f"{column}:Q", scale=scale, axis=axis, title=None)
        if not names.is_comparison:
            marks.append(base.mark("line", color=colour, strokeWidth=1.5, **shift).encode(x=x, y=y))
        marks.append(
            base.mark("point", color=colour, filled=True, size=32, opacity=1, **shift).encode(
                x=x, y=y
            )
        )
    calibrator = label(name)
    if names.is_comparison and name == UNPRUNED_TEMPERATURE:
        calibrator = "temperature of the baseline"
    title = {"text": calibrator, "fontSize": 12, "offset": 4, "color": INK}
    return Part(layer=marks).properties(
        width=WIDTH, height=HEIGHT, title=title, view={"stroke": FAINT}
    )


def _domain(known: pl.DataFrame) -> list[float]:
    columns = ("before", "before_low", "before_high", "value", "ci_low", "ci_high")
    values = [value for column in columns for value in known[column].drop_nulls().to_list()]
    return [min(values), max(values)]


def _recalibration(rows: pl.DataFrame, selection: Selection) -> Part:
    if selection.metric not in RECALIBRATED_METRICS:
        raise NothingToShow(
            f"recalibration does not change {label(selection.metric)}; add metric="
            f"{', '.join(RECALIBRATED_METRICS)}"
        )
    if rows["value"].null_count() == rows.height:
        raise NothingToShow(f"run {selection.run_id} is not recalibrated: {rows['note'][0]}")
    return recalibration_chart(rows, selection.metric, selection.level, selection.names)


RECALIBRATION = ChartDefinition(
    "recalibration",
    "A metric of confidence before and after recalibration, level by level.",
    ("metric", "level"),
    lambda selection: charts.recalibration(selection.run_id, selection.metric),
    _recalibration,
    "predictions of single examples",
    candidate_caption="A metric of confidence before and after recalibration.",
)
