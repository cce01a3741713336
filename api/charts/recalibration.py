"""A metric of confidence before and after recalibration, by level."""

import altair as alt
import polars as pl

from prunelake.analysis.cross_fitting import CALIBRATOR_NAMES, UNPRUNED_TEMPERATURE

from ..findings.wording import label, number
from .axis_titles import axis_title, capitalised_label
from .drawing import BLUE, FAINT, GREY, INK, WIDTH, rule_data, with_house_style

HEIGHT = 62


def recalibration_chart(rows: pl.DataFrame, metric: str, level: int) -> alt.VConcatChart:
    """One panel a calibrator: the metric after it (blue) over the one before (grey), by level.

    All panels share their axes. Calibrators that do not define the metric are left out.
    """
    known = rows.drop_nulls("value")
    present = [name for name in CALIBRATOR_NAMES if known.filter(calibrator=name).height]
    domain = _domain(known)
    panels = [
        _panel(known.filter(calibrator=name), name, domain, is_last=name == present[-1])
        for name in present
    ]
    count = max(known["n"].to_list())
    notes = [
        "grey: as the model gives it; blue: each example by what",
        f"was fitted to others; bars: 95 % interval; n = {count};",
        f"{axis_title(metric)}",
    ]
    chart = alt.vconcat(*panels, spacing=12)
    return with_house_style(chart, f"{capitalised_label(metric)} {_told(known, level)}", notes)


def _told(known: pl.DataFrame, level: int) -> str:
    """What became of the metric at a level, or at the deepest one that was recalibrated."""
    levels = known["level"].unique().sort().to_list()
    shown = level if level in levels else levels[-1]
    here = {row["calibrator"]: row for row in known.filter(level=shown).iter_rows(named=True)}
    before = next(iter(here.values()))["before"]
    where = "of the unpruned model" if shown == 0 else f"at level {shown}"
    told = f"{where} is {number(before, 3)}"
    if "temperature" in here:
        told += f", and {number(here['temperature']['value'], 3)} at its own temperature"
    if shown > 0 and UNPRUNED_TEMPERATURE in here:
        told += f", {number(here[UNPRUNED_TEMPERATURE]['value'], 3)} at the unpruned model's"
    return told


def _panel(points: pl.DataFrame, name: str, domain: list[float], is_last: bool) -> alt.LayerChart:
    x = alt.X(
        "level:Q",
        title="removed layers (0 = unpruned)" if is_last else None,
        scale=alt.Scale(nice=False, zero=False, padding=8),
        axis=alt.Axis(
            values=sorted(points["level"].to_list()),
            format="d",
            labels=is_last,
            labelOverlap=True,
            labelFlush=False,
        ),
    )
    scale = alt.Scale(domain=domain, zero=False, nice=True)
    axis = alt.Axis(tickCount=3, minExtent=34, maxExtent=34, format=".2f")
    base = alt.Chart(points)
    aside = alt.value(3)
    marks: list[alt.Chart] = []
    unpruned = points["unpruned_value"].drop_nulls()
    if len(unpruned):
        marks.append(
            alt.Chart(rule_data(unpruned[0]))
            .mark_rule(color=GREY, strokeDash=[1, 3])
            .encode(y="value:Q")
        )
    for column, low, high, colour, moved in (
        ("before", "before_low", "before_high", GREY, None),
        ("value", "ci_low", "ci_high", BLUE, aside),
    ):
        shift = {} if moved is None else {"xOffset": moved}
        if points[low].null_count() < points.height:
            marks.append(
                base.mark_rule(color=colour, strokeWidth=1.5, opacity=0.7).encode(
                    x=x,
                    y=alt.Y(f"{low}:Q", scale=scale, axis=axis, title=None),
                    y2=f"{high}:Q",
                    **shift,
                )
            )
        y = alt.Y(f"{column}:Q", scale=scale, axis=axis, title=None)
        marks.append(base.mark_line(color=colour, strokeWidth=1.5).encode(x=x, y=y, **shift))
        marks.append(
            base.mark_point(color=colour, filled=True, size=32, opacity=1).encode(x=x, y=y, **shift)
        )
    title = alt.TitleParams(text=label(name), fontSize=12, offset=4, color=INK)
    return alt.LayerChart(layer=marks).properties(
        width=WIDTH, height=HEIGHT, title=title, view=alt.ViewConfig(stroke=FAINT)
    )


def _domain(known: pl.DataFrame) -> list[float]:
    columns = ("before", "before_low", "before_high", "value", "ci_low", "ci_high")
    values = [value for column in columns for value in known[column].drop_nulls().to_list()]
    return [min(values), max(values)]
