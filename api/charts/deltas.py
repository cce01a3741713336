"""Chart: the change of accuracy and a metric from the unpruned model, with verdicts."""

from collections.abc import Sequence

import polars as pl

from prunelake.schema.metrics import METRIC_DEFINITIONS

from ..findings.changes import change_clause, sample_sizes, verdict_clause
from ..findings.level_names import LevelNames
from ..findings.level_rows import is_published
from ..findings.selection import Selection
from .definition import ChartDefinition, headline_metrics, with_accuracy
from .drawing.axis_titles import capitalised_label
from .drawing.house_style import FAINT, GREY, INK, WIDTH, rule_data, with_house_style
from .drawing.level_axis import level_axis
from .drawing.vega_lite import Part, field
from .drawing.verdict_style import VERDICT_STYLES, by_severity, legend_label

HEIGHT = 150
SIDE = 18  # px above and below the points, for the names of the sides
UNTESTED = "not tested"


def deltas_chart(levels: pl.DataFrame, metrics: Sequence[str]) -> Part:
    """The change from level 0 by level, one panel for each metric; up is better.

    For a metric without a direction, up is more. Thin bars are 95 % intervals. Thick bars are 90 %
    intervals; a change is equivalent if its thick bar lies within the shaded margin.
    """
    names = LevelNames.of(levels)
    points = levels.filter(pl.col("level") > 0, pl.col("metric").is_in(metrics)).drop_nulls("delta")
    present = [metric for metric in metrics if points.filter(metric=metric).height]
    clauses = [
        verdict_clause(levels, metric) or change_clause(levels, metric) for metric in present
    ]
    if is_published(levels):
        notes = ["published without examples: no intervals, no verdicts;"]
        baseline = names.in_baseline_words("unpruned")
        notes.append(f"shaded: within {_margins_text(present)} of {baseline}")
    else:
        notes = ["thin bar: 95 % interval; thick bar: 90 %, equivalent"]
        notes.append(
            f"if within the shaded {_margins_text(present)}; {sample_sizes(levels, present)}"
        )
    drawn = points.with_columns(
        pl.col("verdict").replace_strict(
            {verdict: legend_label(verdict, names) for verdict in VERDICT_STYLES}, default=UNTESTED
        )
    )
    present_verdicts = by_severity(points["verdict"].to_list())
    styles = {legend_label(v, names): VERDICT_STYLES[v] for v in present_verdicts}
    domain = [*styles, UNTESTED] if points["verdict"].null_count() else list(styles)
    colours = [style.colour for style in styles.values()] + ["white"]
    shapes = [style.shape for style in styles.values()] + ["circle"]
    legend = {
        "orient": "bottom",
        "title": None,
        "direction": "vertical",
        "labelLimit": WIDTH,
        "symbolStrokeColor": INK,
        "symbolStrokeWidth": 1,
    }
    dots = Part().mark("point", filled=True, size=55, opacity=1, stroke=INK, strokeWidth=1)
    marked = dots.encode(
        color=field(
            "verdict:N",
            scale={"domain": domain, "range": colours[: len(domain)]},
            legend=legend,
        ),
        shape=field(
            "verdict:N", scale={"domain": domain, "range": shapes[: len(domain)]}, legend=legend
        ),
    )
    panels = [
        _panel(drawn.filter(metric=metric), metric, marked, names, is_last=metric == present[-1])
        for metric in present
    ]
    title = "; ".join(clause for clause in clauses if clause)
    return with_house_style(Part(vconcat=panels, spacing=14), title, notes)


def _panel(points: pl.DataFrame, metric: str, dots: Part, names: LevelNames, is_last: bool) -> Part:
    better, margin = METRIC_DEFINITIONS[metric].higher_is_better, METRIC_DEFINITIONS[metric].margin
    domain = _domain(points, margin)
    across = sorted(names.labels)[1:] if names.is_comparison else points["level"].to_list()
    x = level_axis(names, across, "removed layers", is_last, nice=False, zero=False, padding=10)
    y = field(
        "delta:Q",
        title=None,
        # The axis is reversed where lower is better, so that up is better in every panel.
        scale={"domain": domain, "nice": False, "zero": False, "reverse": better is False},
        axis={
            "tickCount": 5,
            "minExtent": 38,
            "maxExtent": 38,
            "labelExpr": "datum.value == 0 ? '0' : format(datum.value, '+.2f')",
        },
    )
    base = Part(data=points)
    marks = [
        Part(data=pl.DataFrame({"low": [-margin], "high": [margin]}))
        .mark("rect", color=FAINT)
        .encode(y=field("low:Q"), y2="high:Q", x={"value": 0}, x2={"value": WIDTH}),
        Part(data=rule_data(0.0)).mark("rule", color=GREY).encode(y="value:Q"),
        base.mark("rule", color=GREY, opacity=0.55, strokeWidth=5).encode(
            x=x, y="equivalence_low:Q", y2="equivalence_high:Q"
        ),
        base.mark("rule", color=INK, strokeWidth=1).encode(x=x, y="delta_low:Q", y2="delta_high:Q"),
        dots.properties(data=points).encode(x=x, y=y),
    ]
    sides = ("higher when pruned", "lower when pruned")
    if names.is_comparison:
        sides = ("higher than the baseline", "lower than the baseline")
    if better is not None:
        sides = ("pruned better", "unpruned better")
        if names.is_comparison:
            sides = ("candidate better", "baseline better")
    for text, place in zip(sides, (7, HEIGHT - 7), strict=True):
        arrow = "\N{UPWARDS ARROW}" if place < SIDE else "\N{DOWNWARDS ARROW}"
        side = Part(data=pl.DataFrame({"side": [f"{arrow} {text}"]})).encode(
            text="side:N", x={"value": 4}, y={"value": place}
        )
        # A white outline keeps grid lines from crossing the letters.
        for colour, width in (("white", 4), (INK, 0)):
            marks.append(
                side.mark(
                    "text",
                    align="left",
                    fontSize=10,
                    color=colour,
                    stroke=colour,
                    strokeWidth=width,
                )
            )
    title = {
        "text": f"{capitalised_label(metric)}: change from {names.in_baseline_words('unpruned')}",
        "subtitle": names.in_baseline_words(METRIC_DEFINITIONS[metric].unit)
        + ("; downwards, as lower is better" if better is False else ""),
        "fontSize": 12,
        "subtitleFontSize": 10.5,
        "offset": 4,
    }
    return Part(layer=marks).properties(width=WIDTH, height=HEIGHT, title=title)


def _margins_text(metrics: Sequence[str]) -> str:
    """The distinct margins of metrics: `0.02`, or `0.02 or 0.05`."""
    margins = dict.fromkeys(METRIC_DEFINITIONS[metric].margin for metric in metrics)
    return " or ".join(f"{margin:g}" for margin in margins)


def _domain(points: pl.DataFrame, margin: float) -> list[float]:
    """The range of all intervals and twice the margin, with room for the names of the sides."""
    columns = ("delta", "delta_low", "delta_high", "equivalence_low", "equivalence_high")
    values = [value for column in columns for value in points[column].drop_nulls().to_list()]
    low, high = min(*values, -2 * margin), max(*values, 2 * margin)
    room = (high - low) * SIDE / (HEIGHT - 2 * SIDE)
    return [low - room, high + room]


def _deltas(rows: pl.DataFrame, selection: Selection) -> Part:
    above = rows.filter(pl.col("level") > 0)
    return deltas_chart(rows, with_accuracy(above, selection, "delta"))


DELTAS = ChartDefinition(
    "deltas",
    "The change of accuracy and a metric from the unpruned model, level by level.",
    ("metric",),
    headline_metrics,
    _deltas,
    candidate_caption="The change of accuracy and a metric from the baseline.",
)
