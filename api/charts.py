"""Frames of `queries` -> charts, with the finding as the title; no SQL here."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from api.drawing import BLUE, GREEN, GREY, INK, PURPLE, VERMILION, WIDTH, finished
from api.findings import (
    LABELS,
    MINUS,
    accuracy_clause,
    change_clause,
    count,
    label,
    number,
    shown_level,
    signed,
)

CONFIDENCE_PANELS = ("accuracy", "ece", "mean_confidence", "flip_rate")
EXPLANATION_PANELS = ("accuracy", "comprehensiveness", "sufficiency", "overlap_10")

PANELS = {
    "accuracy": (BLUE, "Accuracy", "share correct, band: ± 1 standard error"),
    "ece": (VERMILION, "ECE", "0 to 1, lower is better"),
    "mean_confidence": (PURPLE, "Mean confidence", "probability of the predicted option"),
    "flip_rate": (INK, "Flip rate", "share of predictions changed, lower is better"),
    "comprehensiveness": (VERMILION, "Comprehensiveness", "probability lost, higher is better"),
    "sufficiency": (GREEN, "Sufficiency", "probability lost, lower is better"),
    "overlap_10": (PURPLE, "Overlap of top 10 tokens", "share kept from unpruned, 1 = same"),
}

SMALLEST_SPAN = 0.1
"""No y axis spans less, or noise in the third decimal would look like a collapse."""

COEFFICIENTS = ["Pearson", "Spearman", "Kendall"]


def levels_chart(levels: pl.DataFrame, metrics: Sequence[str]) -> alt.VConcatChart:
    """One panel a metric over the same axis of removed layers; metrics without values are left out.

    A dotted line carries the unpruned value on, a vertical rule marks level 0 and a dashed one the
    level that the title speaks of; dashed grey is the random ranking.
    """
    shown = shown_level(levels)
    # A metric of a single point has nothing to set against accuracy over levels.
    known = levels.drop_nulls("value")
    present = [metric for metric in metrics if known.filter(metric=metric).height]
    titles = [accuracy_clause(levels)]
    if shown is not None:
        focus = [metric for metric in present if metric not in ("accuracy", "flip_rate")][:2]
        clauses = [change_clause(levels, metric, shown) for metric in focus]
        titles += [clause for clause in clauses if clause]
    subtitle = f"by point estimates, n = {count(levels, 'accuracy')}"
    if "comprehensiveness" in present:
        subtitle += f", explained: n = {count(levels, 'comprehensiveness')}"
    panels = [
        _panel(known.filter(metric=metric), metric, shown, is_last=metric == present[-1])
        for metric in present
    ]
    return finished(alt.vconcat(*panels, spacing=14), ", ".join(titles), [subtitle])


def importance_chart(layers: pl.DataFrame, removed: int) -> alt.LayerChart:
    """One cell a layer, in layer order; in it the level from which on the layer is removed.

    Colour is importance, on a log scale where all are positive. The cells of the `removed` layers
    that go at the deepest level have a frame.
    """
    size = layers.height
    row_count = -(-size // 16)
    per_row = -(-size // row_count)
    is_log = bool((layers["importance"] > 0).all())
    scaled = layers["importance"].log() if is_log else layers["importance"]
    low, high = min(scaled.to_list()), max(scaled.to_list())
    cells = layers.select(
        "layer",
        "importance",
        (pl.col("rank") + 1).alias("removed_at"),
        (pl.col("layer") // per_row).alias("row"),
        (pl.col("layer") % per_row).alias("column"),
        # White digits only on cells dark enough for them.
        (scaled > low + 0.62 * (high - low)).alias("is_dark"),
        (pl.col("rank") < removed).alias("is_removed"),
    )
    order = layers.sort("rank")["layer"].to_list()
    x = alt.X("column:O", axis=None, scale=alt.Scale(paddingInner=0.08))
    y = alt.Y("row:O", axis=None, scale=alt.Scale(paddingInner=0.5))
    base = alt.Chart(cells).encode(x=x, y=y)
    colour = alt.Color(
        "importance:Q",
        scale=alt.Scale(
            type="log" if is_log else "linear", range=["#EAF3FB", "#6BA5D0", "#08306B"]
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
    ranks = base.mark_text(fontSize=11, fontWeight="bold").encode(
        text="removed_at:Q",
        color=alt.when("datum.is_dark").then(alt.value("white")).otherwise(alt.value(INK)),
    )
    numbers = base.mark_text(fontSize=9, dy=-19, color=GREY).encode(text="layer:Q")
    chart = alt.LayerChart(layer=[rectangles, frames, ranks, numbers]).properties(
        width=22 * per_row, height=42 * row_count
    )
    title = f"Layer {order[0]} goes first, layer {order[-1]} would go last"
    notes = [
        "above a cell: the layer, counted from the input;",
        "in it: the level from which on its attention is gone;",
        f"framed: gone at the deepest level evaluated ({removed})",
    ]
    return finished(chart, title, notes)


def correlations_chart(correlations: pl.DataFrame) -> alt.LayerChart:
    """Pearson, Spearman and Kendall of accuracy with each metric, for rows of one scope."""
    points = (
        correlations.unpivot(
            ["pearson", "spearman", "kendall"], index="metric", variable_name="coefficient"
        )
        .drop_nulls("value")
        .with_columns(pl.col("metric").replace(LABELS), pl.col("coefficient").str.to_titlecase())
    )
    order = points["metric"].unique(maintain_order=True).to_list()
    known = correlations.drop_nulls("spearman")
    focus = known.filter(pl.col("metric").is_in(["ece", "comprehensiveness", "sufficiency"]))
    counts = set(focus["level_count"])
    found = [
        f"{label(row['metric'])} {number(row['spearman'])}"
        + (f" ({row['level_count']} levels)" if len(counts) > 1 else "")
        for row in focus.iter_rows(named=True)
    ]
    over = f" over {counts.pop()} levels" if len(counts) == 1 else ""
    title = f"Spearman correlation with accuracy{over}: {', '.join(found) or 'undefined'}"
    base = alt.Chart(points).encode(
        y=alt.Y("metric:N", sort=order, title=None, axis=alt.Axis(labelLimit=180, grid=True))
    )
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(
        # Equal coefficients would hide one another on one line.
        yOffset=alt.YOffset("coefficient:N", sort=COEFFICIENTS),
        x=alt.X(
            "value:Q",
            title=f"correlation with accuracy, {MINUS}1 to 1",
            scale=alt.Scale(domain=[-1, 1]),
            axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1], grid=True),
        ),
        color=alt.Color(
            "coefficient:N",
            sort=COEFFICIENTS,
            scale=alt.Scale(domain=COEFFICIENTS, range=[BLUE, VERMILION, GREEN]),
            legend=alt.Legend(orient="bottom", title=None),
        ),
        shape=alt.Shape(
            "coefficient:N",
            sort=COEFFICIENTS,
            scale=alt.Scale(domain=COEFFICIENTS, range=["circle", "diamond", "triangle-up"]),
        ),
    )
    zero = alt.Chart(_at(0.0)).mark_rule(color=GREY).encode(x="value:Q")
    chart = alt.LayerChart(layer=[zero, dots]).properties(
        width=WIDTH - 130, height=alt.Step(27, **{"for": "position"})
    )
    return finished(chart, title, ["levels are nested, so they are no independent draws"])


def reliability_chart(reliability: pl.DataFrame, level: int) -> alt.LayerChart:
    """Accuracy against confidence in each bin of confidence, unpruned and at a level."""
    bins = reliability.filter(pl.col("level").is_in([0, level])).with_columns(
        pl.when(pl.col("level") == 0)
        .then(pl.lit("unpruned"))
        .otherwise(pl.format("level {}", "level"))
        .alias("model")
    )
    names = bins.sort("level")["model"].unique(maintain_order=True).to_list()
    gaps = [
        f"{_confidence_gap(bins.filter(model=name))} {'' if name == 'unpruned' else 'at '}{name}"
        for name in names
    ]
    title = f"Mean confidence minus accuracy: {', '.join(gaps)}"
    largest = max(bins["n"].to_list())
    unit = alt.Scale(domain=[0, 1])
    base = alt.Chart(bins).encode(
        x=alt.X("mean_confidence:Q", title="mean confidence in the bin", scale=unit),
        y=alt.Y("accuracy:Q", title="accuracy in the bin", scale=unit),
        color=alt.Color(
            "model:N",
            sort=names,
            scale=alt.Scale(domain=names, range=[BLUE, VERMILION][: len(names)]),
            legend=alt.Legend(orient="bottom", title=None, symbolSize=70),
        ),
        shape=alt.Shape(
            "model:N",
            sort=names,
            scale=alt.Scale(domain=names, range=["circle", "diamond"][: len(names)]),
        ),
    )
    ends = pl.DataFrame({"mean_confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    diagonal = (
        alt.Chart(ends)
        .mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1)
        .encode(x="mean_confidence:Q", y="accuracy:Q")
    )
    dots = base.mark_point(filled=True, opacity=0.85).encode(
        size=alt.Size(
            "n:Q",
            scale=alt.Scale(type="linear", domainMin=0, range=[12, 320]),
            legend=alt.Legend(
                orient="bottom", title="examples", values=sorted({1, -(-largest // 2), largest})
            ),
        )
    )
    chart = alt.LayerChart(layer=[diagonal, dots]).properties(width=WIDTH, height=WIDTH)
    total = bins.filter(level=0)["n"].sum()
    notes = [f"by point estimates, n = {total}; dashed: confidence = accuracy"]
    return finished(chart, title, notes)


def _panel(points: pl.DataFrame, metric: str, shown: int | None, is_last: bool) -> alt.LayerChart:
    colour, name, unit = PANELS[metric]
    has_random = points["random_value"].null_count() < points.height
    if has_random:
        unit += "; dashed: random ranking"
    if metric == "accuracy":
        error = (pl.col("value") * (1 - pl.col("value")) / pl.col("n")).sqrt()
        points = points.with_columns(
            low=(pl.col("value") - error).clip(0, 1), high=(pl.col("value") + error).clip(0, 1)
        )
    levels = sorted(points["level"].to_list())
    x = alt.X(
        "level:Q",
        title="removed attention layers (0 = unpruned)" if is_last else None,
        scale=alt.Scale(nice=False),
        axis=alt.Axis(values=levels, format="d", labels=is_last, labelOverlap=True),
    )
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=_domain(points), zero=False, nice=True),
        axis=alt.Axis(tickCount=4, minExtent=34, maxExtent=34, format=".2f"),
    )
    base = alt.Chart(points)
    marks: list[alt.Chart] = [alt.Chart(_at(0, "level")).mark_rule(color=GREY).encode(x="level:Q")]
    if shown:
        marks.append(
            alt.Chart(_at(shown, "level"))
            .mark_rule(color=GREY, strokeDash=[2, 2])
            .encode(x="level:Q")
        )
    unpruned = points.filter(level=0)
    marks.append(
        alt.Chart(unpruned.select("value"))
        .mark_rule(color=GREY, strokeDash=[1, 3])
        .encode(y="value:Q")
    )
    if metric == "accuracy":
        marks.append(base.mark_area(color=colour, opacity=0.15).encode(x=x, y="low:Q", y2="high:Q"))
    if has_random:
        marks.append(
            base.mark_line(color=GREY, strokeDash=[6, 4], strokeWidth=1.5).encode(
                x=x, y="random_value:Q"
            )
        )
    marks.append(base.mark_line(color=colour, strokeWidth=2).encode(x=x, y=y))
    marks.append(base.mark_point(color=colour, filled=True, size=40, opacity=1).encode(x=x, y=y))
    title = alt.TitleParams(text=name, subtitle=unit, fontSize=12, subtitleFontSize=10.5, offset=4)
    return alt.LayerChart(layer=marks).properties(width=WIDTH, height=90, title=title)


def _domain(points: pl.DataFrame) -> list[float]:
    columns = [c for c in ("value", "random_value", "low", "high") if c in points.columns]
    values = [value for column in columns for value in points[column].drop_nulls().to_list()]
    low, high = min(values), max(values)
    missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    return [low - missing, high + missing]


def _confidence_gap(bins: pl.DataFrame) -> str:
    gap = (pl.col("mean_confidence") - pl.col("accuracy")) * pl.col("n")
    mean: float = bins.select(gap.sum() / pl.col("n").sum()).item()
    return signed(mean)


def _at(value: float, name: str = "value") -> pl.DataFrame:
    return pl.DataFrame({name: [value]})
