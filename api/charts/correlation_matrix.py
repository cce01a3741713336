"""Chart: the correlation of each metric with accuracy in each task of a model."""

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.level_rows import CORRELATED_METRICS
from ..findings.selection import Selection
from ..findings.wording import interval, label, listed, number
from ..queries import comparisons
from .definition import NO_CORRELATION, ChartDefinition
from .drawing.house_style import DIVERGING, GREY, INK, WIDTH, with_house_style
from .drawing.vega_lite import Part, field

MAX_NAMED_METRICS = 3
"""The most metrics that a title names."""

MOST_ABREAST = 5
"""The most tasks side by side on a phone: an interval of 10 px letters fits into each cell."""

WIDEST = 110  # px of a cell
VERTICAL_BELOW = 86  # px of a cell; in narrower cells the tasks' names are vertical


def matrix_chart(correlations: pl.DataFrame) -> Part:
    """metric x task: Spearman correlation with accuracy over all levels, its interval beneath.

    A cell whose interval includes 0 is faded, with a dashed frame; a cell without a correlation is
    left out. The strongest metrics are at the top.
    """
    known = correlations.drop_nulls("spearman").with_columns(
        is_apart=(pl.col("spearman_low") > 0) | (pl.col("spearman_high") < 0),
        strength=pl.col("spearman").abs().mean().over("metric"),
    )
    known = known.sort("strength", "metric", "task", descending=[True, False, False])
    metrics = [label(name) for name in known["metric"].unique(maintain_order=True)]
    tasks = sorted(set(correlations["task"]))
    cells = known.select(
        "task",
        "spearman",
        "is_apart",
        pl.col("metric").map_elements(label, pl.String),
        pl.Series("coefficient", [_short(value) for value in known["spearman"]]),
        pl.Series("interval", _intervals(known)),
    )
    has_intervals = known["spearman_low"].null_count() < known.height
    # Equal bands: 6 tasks in two bands of 3.
    band_count = -(-len(tasks) // MOST_ABREAST)
    abreast = -(-len(tasks) // band_count)
    size = min(WIDEST, (WIDTH + 44) // abreast)
    bands = [
        _band(cells, tasks[at : at + abreast], metrics, size, has_intervals)
        for at in range(0, len(tasks), abreast)
    ]
    notes = ["no interval is known; levels are nested,", "not independent draws"]
    if has_intervals:
        notes = [
            "small: 95 % interval; faded and dashed: includes 0;",
            "all levels; they are nested, not independent draws",
        ]
    chart = bands[0] if len(bands) == 1 else Part(vconcat=bands, spacing=16)
    return with_house_style(chart, _title(known, len(tasks)), notes, size * abreast)


def _band(
    cells: pl.DataFrame, tasks: list[str], metrics: list[str], size: int, has_intervals: bool
) -> Part:
    """The cells of some tasks side by side."""
    x = field(
        "task:N",
        title=None,
        scale={"domain": tasks, "paddingInner": 0.05, "paddingOuter": 0},
        axis={
            "orient": "top",
            "domain": False,
            "ticks": False,
            "labelPadding": 0,
            "labelLimit": WIDEST,
            "labelAngle": -90 if size < VERTICAL_BELOW else 0,
        },
    )
    # A row's name is above its cells, so that the cells have the whole width of a phone.
    y = field(
        "metric:N",
        scale={"domain": metrics, "paddingInner": 0.36, "paddingOuter": 0.36},
        axis=None,
    )
    base = Part(data=cells.filter(pl.col("task").is_in(tasks))).encode(x=x, y=y)
    is_faded = "datum.is_apart === false"
    rectangles = base.mark("rect").encode(
        color=field(
            "spearman:Q",
            scale={"domain": [-1, 0, 1], "range": list(DIVERGING), "interpolate": "rgb"},
            legend={
                "title": "Spearman correlation with accuracy",
                "orient": "bottom",
                "direction": "horizontal",
                "offset": 4,
                "titleLimit": WIDTH,
                "gradientLength": 200,
                "gradientThickness": 10,
                "values": [-1, -0.5, 0, 0.5, 1],
            },
        ),
        opacity={"condition": {"test": is_faded, "value": 0.4}, "value": 1},
    )
    frames = base.mark("rect", filled=False, stroke=GREY, strokeDash=[3, 2]).filter(is_faded)
    coefficients = base.mark("text", fontSize=11, dy=-5 if has_intervals else 0, color=INK).encode(
        text="coefficient:N"
    )
    intervals = base.mark("text", fontSize=10, dy=8, color=INK).encode(text="interval:N")
    names = (
        Part(data=pl.DataFrame({"metric": metrics}))
        .mark("text", align="left", fontSize=10.5, dy=-21, color=INK)
        .encode(x={"value": 0}, y=y, text="metric:N")
    )
    return Part(
        layer=[rectangles, frames, coefficients, intervals, names],
        width=size * len(tasks),
        height={"step": 44},
    )


def _intervals(known: pl.DataFrame) -> list[str]:
    pairs = known.select("spearman_low", "spearman_high").rows()
    return ["" if None in pair else f"{_short(pair[0])}, {_short(pair[1])}" for pair in pairs]


def _title(known: pl.DataFrame, task_count: int) -> str:
    """The metrics that correlate with accuracy in every task, strongest first.

    Their correlations have the same sign in all tasks. If an interval is known, it has to exclude
    0.
    """
    consistent = []
    nearest = (0, "")
    for metric in known["metric"].unique(maintain_order=True):
        rows = known.filter(metric=metric)
        # Without an interval only the direction is known.
        sure = rows.filter(pl.col("is_apart") | pl.col("spearman_low").is_null())
        agreeing = max(
            sure.filter(pl.col("spearman") > 0), sure.filter(pl.col("spearman") < 0), key=len
        )
        if agreeing.height == task_count:
            values = sorted(agreeing["spearman"].to_list())
            reach = number(values[0])
            if reach != number(values[-1]):
                reach = f"from {interval(values[0], values[-1])}"
            consistent.append(f"{label(metric)} ({reach})")
        nearest = max(nearest, (agreeing.height, label(metric)), key=lambda pair: pair[0])
    where = {1: "the only task", 2: "both tasks"}.get(task_count, f"all {task_count} tasks")
    if consistent:
        named = consistent[:MAX_NAMED_METRICS]
        if len(consistent) > len(named):
            named.append(f"{len(consistent) - len(named)} more")
        return f"In {where} accuracy correlates with {listed(named)}"
    count, metric = nearest
    best = f"; {metric} does in {count}" if count else ""
    return f"No metric is shown to correlate with accuracy in {where}{best}"


def _short(value: float) -> str:
    """A correlation in few characters: -.45, 1."""
    text = number(value)
    return text.removesuffix(".00") if text.endswith(".00") else text.replace("0.", ".")


def _correlation_matrix(rows: pl.DataFrame, selection: Selection) -> Part:
    correlated = rows.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if correlated.drop_nulls("spearman").is_empty():
        raise NothingToShow(
            "no correlation with accuracy is defined in any task of the model and strategy of run "
            f"{selection.run_id}"
        )
    return matrix_chart(correlated)


CORRELATION_MATRIX = ChartDefinition(
    "correlation_matrix",
    "The correlation of each metric with accuracy in every task of the model.",
    (),
    lambda selection: comparisons.correlation_matrix(selection.run_id),
    _correlation_matrix,
    "correlations",
    NO_CORRELATION,
)
