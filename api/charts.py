"""Frames of `queries` -> charts, with the finding as the title; no SQL here."""

from collections.abc import Sequence

import altair as alt
import polars as pl

from api.drawing import BLUE, GREEN, GREY, INK, PURPLE, VERMILION, WIDTH, finished
from api.findings import accuracy_clause, count, is_published, metric_clause, shown_level
from api.wording import LABELS, label, listed, number, signed

CONFIDENCE_PANELS = ("accuracy", "ece", "nll", "flip_rate")
EXPLANATION_PANELS = ("accuracy", "comprehensiveness", "sufficiency", "overlap_10")

PANELS = {
    "accuracy": (BLUE, "Accuracy", "share correct"),
    "ece": (VERMILION, "ECE", "0 to 1, lower is better"),
    "nll": (PURPLE, "NLL", "nats to the right option, lower is better"),
    "flip_rate": (INK, "Flip rate", "share of predictions changed, lower is better"),
    "comprehensiveness": (VERMILION, "Comprehensiveness", "probability lost, higher is better"),
    "sufficiency": (GREEN, "Sufficiency", "probability lost, lower is better"),
    "overlap_10": (PURPLE, "Overlap of top 10 tokens", "share kept from unpruned, 1 = same"),
}

SMALLEST_SPAN = 0.1
"""No y axis spans less, or noise in the third decimal would look like a collapse."""


NAMED = 3
"""So many correlations go into a title."""


def levels_chart(levels: pl.DataFrame, metrics: Sequence[str]) -> alt.VConcatChart:
    """One panel a metric over the same axis of removed layers; metrics without values are left out.

    A dotted line carries the unpruned value on, a vertical rule marks level 0 and a dashed one the
    level that the title speaks of; dashed grey is the random ranking.
    """
    shown = shown_level(levels)
    # A metric of a single point has nothing to set against accuracy over levels.
    known = levels.drop_nulls("value")
    present = [metric for metric in metrics if known.filter(metric=metric).height]
    focus = [metric for metric in present if metric != "accuracy"][:2]
    clauses = [accuracy_clause(levels), *(metric_clause(levels, metric) for metric in focus)]
    if is_published(levels):
        notes = ["published without examples: no intervals, no verdicts"]
    else:
        explained = [m for m in present if m in ("comprehensiveness", "sufficiency")]
        n = f"n = {count(levels, 'accuracy')}"
        n += f", explained: n = {count(levels, explained[0])}" if explained else ""
        notes = [f"band: 95 % interval; {n}"]
    panels = [
        _panel(known.filter(metric=metric), metric, shown, is_last=metric == present[-1])
        for metric in present
    ]
    title = "; ".join(clause for clause in clauses if clause)
    return finished(alt.vconcat(*panels, spacing=14), title, notes)


def correlations_chart(correlations: pl.DataFrame) -> alt.LayerChart:
    """Spearman correlation of accuracy with each metric, over all and over the stable levels.

    A line is the 95 % interval.
    """
    known = correlations.drop_nulls("spearman")
    scopes = [scope for scope in ("all", "stable") if known.filter(scope=scope).height]
    names = {"all": "all levels", "stable": "levels of stable accuracy"}
    points = known.select(
        "spearman",
        "spearman_low",
        "spearman_high",
        pl.col("metric").replace(LABELS),
        pl.col("scope").replace(names),
    )
    order = points["metric"].unique(maintain_order=True).to_list()
    domain = [names[scope] for scope in scopes]
    y = alt.Y(
        "metric:N", sort=order, title=None, axis=alt.Axis(minExtent=165, labelLimit=165, grid=True)
    )
    base = alt.Chart(points).encode(
        y=y,
        # Equal coefficients would hide one another on one line.
        yOffset=alt.YOffset("scope:N", sort=domain),
        color=alt.Color(
            "scope:N",
            sort=domain,
            scale=alt.Scale(domain=domain, range=[BLUE, VERMILION][: len(domain)]),
            legend=alt.Legend(orient="bottom", title=None),
        ),
    )
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(
        x=alt.X(
            "spearman:Q",
            title="Spearman correlation with accuracy",
            scale=alt.Scale(domain=[-1, 1]),
            axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1], grid=True),
        ),
        shape=alt.Shape(
            "scope:N",
            sort=domain,
            scale=alt.Scale(domain=domain, range=["circle", "diamond"][: len(domain)]),
        ),
    )
    marks = [alt.Chart(_at(0.0)).mark_rule(color=GREY).encode(x="value:Q")]
    if points["spearman_low"].null_count() < points.height:
        marks.append(base.mark_rule(strokeWidth=2).encode(x="spearman_low:Q", x2="spearman_high:Q"))
        notes = ["line: 95 % interval; named if without 0;"]
    else:
        notes = ["no interval is known;"]
    notes.append("levels are nested: no independent draws")
    chart = alt.LayerChart(layer=[*marks, dots]).properties(
        width=WIDTH - 140, height=alt.Step(24, **{"for": "position"})
    )
    return finished(chart, _correlated(known), notes)


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
    notes = [f"n = {total}; dashed: confidence = accuracy"]
    return finished(chart, title, notes)


def _panel(points: pl.DataFrame, metric: str, shown: int | None, is_last: bool) -> alt.LayerChart:
    colour, name, unit = PANELS[metric]
    has_random = points["random_value"].null_count() < points.height
    if has_random:
        unit += "; dashed: random ranking"
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
    if points["ci_low"].null_count() < points.height:
        marks.append(
            base.mark_area(color=colour, opacity=0.15).encode(x=x, y="ci_low:Q", y2="ci_high:Q")
        )
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
    columns = ("value", "random_value", "ci_low", "ci_high")
    values = [value for column in columns for value in points[column].drop_nulls().to_list()]
    low, high = min(values), max(values)
    missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    return [low - missing, high + missing]


def _correlated(known: pl.DataFrame) -> str:
    """Per scope the metrics whose interval excludes 0, or, where there are none, all of them."""
    found = []
    for scope, levels in (("all", "levels"), ("stable", "stable levels")):
        rows = known.filter(scope=scope)
        if rows.is_empty():
            continue
        is_apart = (pl.col("spearman_low") > 0) | (pl.col("spearman_high") < 0)
        apart = rows.filter(is_apart | pl.col("spearman_low").is_null())
        strongest = apart.sort(pl.col("spearman").abs(), descending=True).head(NAMED)
        values = [
            f"{label(row['metric'])} ({number(row['spearman'])})"
            for row in strongest.iter_rows(named=True)
        ]
        if apart.height > NAMED:
            values.append(f"{apart.height - NAMED} more")
        with_what = listed(values) if values else "nothing for sure"
        counts = "all" if rows["level_count"].n_unique() > 1 else str(rows["level_count"][0])
        found.append(f"over {counts} {levels} with {with_what}")
    return f"Accuracy correlates {'; '.join(found)}" if found else "No correlation is defined"


def _confidence_gap(bins: pl.DataFrame) -> str:
    gap = (pl.col("mean_confidence") - pl.col("accuracy")) * pl.col("n")
    mean: float = bins.select(gap.sum() / pl.col("n").sum()).item()
    return signed(mean)


def _at(value: float, name: str = "value") -> pl.DataFrame:
    return pl.DataFrame({name: [value]})
