"""Chart: accuracy against a metric, one point for each level, joined in order."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import dist

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.selection import Selection
from ..findings.wording import interval, label, number
from ..queries import charts
from .candidate_points import candidate_path_chart
from .definition import ChartDefinition
from .drawing.axis_titles import axis_title
from .drawing.house_style import BLUE, GREY, INK, VERMILION, WIDTH, with_house_style
from .drawing.vega_lite import Part, field

LABEL_OFFSETS = ((0, 11), (0, -11), (11, 0), (-11, 0), (9, 9), (-9, 9), (9, -9), (-9, -9))
"""Offsets in px (right, up) from a point to the middle of its label, in order of preference."""

LABEL_SPACING_PX = 17, 12  # px between two labels, to the right and up
LINE_CLEARANCE_PX = 8  # px from the middle of a label to a point
PADDING = 0.06  # share of the span, on both sides
SMALLEST_SPAN = 0.1  # on an axis; otherwise noise in the third decimal would look like a path

ORIGIN = "axes need not start at 0"

Point = tuple[float, float]


def path_chart(path: pl.DataFrame, metric: str, level: int) -> Part:
    """The path from level 0 on through (accuracy, metric); crosses are 95 % intervals.

    Level 0 and `level` are marked. Each level has a label if there is room for it.
    """
    levels = path["level"].to_list()
    names = {at: f"level {at}" if at else "unpruned" for at in (0, level) if at in levels}
    x_domain = _domain(path, "accuracy")
    y_domain = _domain(path, "value")
    points = path.with_columns(
        pl.col("level").replace_strict(names, default=None, return_dtype=pl.String).alias("marked")
    )
    x = field(
        "accuracy:Q",
        title="accuracy, share correct",
        scale={"domain": x_domain, "nice": False, "zero": False},
        axis={"format": ".2f", "tickCount": 5, "grid": True},
    )
    y = field(
        "value:Q",
        title=[label(metric), axis_title(metric)],
        scale={"domain": y_domain, "nice": False, "zero": False},
        axis={"format": ".2f", "tickCount": 5},
    )
    base = Part(data=points).encode(x=x, y=y)
    thin = base.mark("rule", color=GREY, opacity=0.5, strokeWidth=0.75)
    marks: list[Part] = []
    if points["ci_low"].null_count() < points.height:
        marks.append(thin.encode(y="ci_low:Q", y2="ci_high:Q"))
    if points["accuracy_low"].null_count() < points.height:
        marks.append(thin.encode(x="accuracy_low:Q", x2="accuracy_high:Q"))
    marks.append(
        base.mark("line", color=GREY, strokeWidth=1.5, strokeJoin="round").encode(order="level:Q")
    )
    marks.append(base.mark("point", filled=True, color=INK, size=22, opacity=1))
    domain = list(names.values())
    marks.append(
        base.filter("isValid(datum.marked)")
        .mark("point", filled=True, size=110, opacity=1, stroke="white", strokeWidth=1)
        .encode(
            color=field(
                "marked:N",
                scale={"domain": domain, "range": [BLUE, VERMILION][: len(domain)]},
                legend={"orient": "bottom", "title": None},
            ),
            shape=field(
                "marked:N",
                scale={"domain": domain, "range": ["square", "diamond"][: len(domain)]},
            ),
        )
    )
    labels = _labels(path, x_domain, y_domain, first=list(names))
    numbers = Part(data=labels).encode(x="label_x:Q", y="label_y:Q", text="level:Q")
    # A white outline keeps lines from crossing the digits.
    marks.append(numbers.mark("text", fontSize=10, color="white", stroke="white", strokeWidth=3))
    marks.append(numbers.mark("text", fontSize=10, color=INK))
    chart = Part(layer=marks).properties(width=WIDTH, height=WIDTH)
    return with_house_style(chart, _title(path, metric), _notes(path))


def _title(path: pl.DataFrame, metric: str) -> str:
    """The direction of the correlation with accuracy, and whether its interval excludes 0."""
    row = path.row(0, named=True)
    name, rho = label(metric), row["spearman"]
    if rho is None:
        reason = f": {row['note']}" if row["note"] else ""
        return f"No correlation of {name} with accuracy over levels is defined{reason}"
    reach = interval(row["spearman_low"], row["spearman_high"])
    coefficient = f"Spearman {number(rho)} over {row['level_count']} levels"
    coefficient += f" (95 % interval {reach})" if reach else " (interval not known)"
    if reach and row["spearman_low"] <= 0 <= row["spearman_high"]:
        return f"{name} is not shown to correlate with accuracy: {coefficient}"
    return f"{name} {'falls' if rho > 0 else 'rises'} where accuracy falls: {coefficient}"


def _notes(path: pl.DataFrame) -> list[str]:
    notes = ["numbers: levels; they are nested, not independent draws;", f"{ORIGIN};"]
    scored, measured = path["accuracy_n"][0], path["n"][0]
    if scored is None:
        return [*notes, "published without examples: no intervals"]
    n = f"n = {scored}" + (f", explained: n = {measured}" if measured != scored else "")
    return [*notes, f"crosses: 95 % intervals; {n}"]


def _domain(path: pl.DataFrame, name: str) -> tuple[float, float]:
    """The range of all intervals with padding, at least `SMALLEST_SPAN` wide."""
    low_name, high_name = (
        ("ci_low", "ci_high") if name == "value" else (f"{name}_low", f"{name}_high")
    )
    values = [v for column in (name, low_name, high_name) for v in path[column].drop_nulls()]
    low, high = min(values), max(values)
    missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    padding = missing + PADDING * (high - low)
    return low - padding, high + padding


def _labels(
    path: pl.DataFrame, x: tuple[float, float], y: tuple[float, float], first: Sequence[int]
) -> pl.DataFrame:
    """The places of the levels' labels, in order of importance, beginning with `first`.

    A level without room has no label.
    """
    x_px, y_px = WIDTH / (x[1] - x[0]), WIDTH / (y[1] - y[0])
    points = {
        level: ((accuracy - x[0]) * x_px, (value - y[0]) * y_px)
        for level, accuracy, value in path.select("level", "accuracy", "value").rows()
    }
    line = [
        point for start, end in pairwise(points.values()) for point in _points_between(start, end)
    ]
    placed: dict[int, Point] = {}
    for level in dict.fromkeys([*first, max(points), *points]):
        places = [(points[level][0] + right, points[level][1] + up) for right, up in LABEL_OFFSETS]
        free = [place for place in places if _is_free(place, points.values(), placed.values())]
        off_the_line = [place for place in free if _is_free(place, line, ())]
        if free:
            placed[level] = (off_the_line or free)[0]
    return pl.DataFrame(
        {
            "level": list(placed),
            "label_x": [x[0] + right / x_px for right, _ in placed.values()],
            "label_y": [y[0] + up / y_px for _, up in placed.values()],
        },
        schema={"level": pl.Int64, "label_x": pl.Float64, "label_y": pl.Float64},
    )


def _points_between(start: Point, end: Point) -> list[Point]:
    """Points of the straight line, at most `LINE_CLEARANCE_PX` apart."""
    steps = 1 + int(dist(start, end) // LINE_CLEARANCE_PX)
    x, y = start
    dx, dy = (end[0] - x) / steps, (end[1] - y) / steps
    return [(x + dx * step, y + dy * step) for step in range(steps + 1)]


def _is_free(place: Point, points: Iterable[Point], labels: Iterable[Point]) -> bool:
    right, up = place
    return (
        0 <= right <= WIDTH
        and 0 <= up <= WIDTH
        and all(
            abs(right - x) >= LINE_CLEARANCE_PX or abs(up - y) >= LINE_CLEARANCE_PX
            for x, y in points
        )
        and all(
            abs(right - x) >= LABEL_SPACING_PX[0] or abs(up - y) >= LABEL_SPACING_PX[1]
            for x, y in labels
        )
    )


def _path(rows: pl.DataFrame, selection: Selection) -> Part:
    if selection.metric == "accuracy":
        raise NothingToShow("the path needs a metric other than accuracy; add metric=nll")
    if selection.names.is_comparison:
        return candidate_path_chart(rows, selection.metric, selection.level, selection.names)
    return path_chart(rows, selection.metric, selection.level)


PATH = ChartDefinition(
    "path",
    "Accuracy against a metric, level by level.",
    ("metric", "level"),
    lambda selection: charts.accuracy_path(selection.run_id, selection.metric),
    _path,
    candidate_caption="Accuracy against a metric, for each candidate.",
)
