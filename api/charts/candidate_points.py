"""Charts of a comparison in a plane: accuracy against a metric, and both against the size."""

import polars as pl

from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.verdicts import Verdict

from ..findings.level_names import LevelNames
from ..findings.wording import from_to, label, listed, number, percent
from .drawing.axis_titles import axis_title, capitalised_label
from .drawing.house_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILION,
    WIDTH,
    with_house_style,
)
from .drawing.vega_lite import Part, field

COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE)
SHAPES = ("circle", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right")
"""Five colours and six shapes give thirty different pairs."""


def candidate_path_chart(path: pl.DataFrame, metric: str, level: int, names: LevelNames) -> Part:
    """Each candidate at its accuracy and metric, as rows of `charts.accuracy_path`.

    Crosses are 95 % intervals. The title describes the candidate `level`.
    """
    points = _labelled(path, names)
    x = field(
        "accuracy:Q",
        title="accuracy, share correct",
        scale={"zero": False, "padding": 8},
        axis={"format": ".2f", "tickCount": 5, "grid": True},
    )
    y = field(
        "value:Q",
        title=[label(metric), names.in_baseline_words(axis_title(metric))],
        scale={"zero": False, "padding": 8},
        axis={"format": ".2f", "tickCount": 5},
    )
    base = Part(data=points).encode(x=x, y=y)
    thin = base.mark("rule", color=GREY, opacity=0.5, strokeWidth=0.75)
    marks: list[Part] = []
    if points["ci_low"].null_count() < points.height:
        marks.append(thin.encode(y="ci_low:Q", y2="ci_high:Q"))
    if points["accuracy_low"].null_count() < points.height:
        marks.append(thin.encode(x="accuracy_low:Q", x2="accuracy_high:Q"))
    marks.append(_dots(base, names))
    notes = ["published without examples: no intervals"]
    if (scored := path["accuracy_n"][0]) is not None:
        explained = f", explained: n = {path['n'][0]}" * (path["n"][0] != scored)
        notes = [f"crosses: 95 % intervals; n = {scored}{explained}"]
    notes[-1] += ";"
    notes.append("axes need not start at 0")
    chart = Part(layer=marks).properties(width=WIDTH, height=WIDTH)
    by_level = {row["level"]: row for row in path.iter_rows(named=True)}
    title = "Accuracy and " + label(metric)
    if 0 in by_level and level in by_level and level > 0:
        before, after = by_level[0], by_level[level]
        title = (
            f"{names.at([level])} accuracy {_change(before['accuracy'], after['accuracy'])}, and "
            f"{label(metric)} {_change(before['value'], after['value'])}"
        )
    return with_house_style(chart, title, notes)


def _change(before: float, after: float) -> str:
    if number(before, 3) == number(after, 3):
        return f"stays at {number(after)}"
    return f"goes from {from_to(before, after)}"


def candidate_size_chart(sizes: pl.DataFrame, metric: str, names: LevelNames) -> Part:
    """Accuracy and the metric against the size of the weights, as rows of `candidate_sizes`.

    `sizes` has rows of accuracy with a known size.
    """
    points = _labelled(sizes, names).with_columns(megabytes=pl.col("weight_bytes") / 1e6)
    known = points.drop_nulls("megabytes")
    shown = [name for name in dict.fromkeys(("accuracy", metric)) if name in set(known["metric"])]
    panels = [
        _size_panel(known.filter(metric=name), name, names, is_last=name == shown[-1])
        for name in shown
    ]
    notes = ["axes need not start at 0; left is smaller, up is better"]
    if known["ci_low"].null_count() < known.height:
        notes[0] += "; bar: 95 % interval"
    unknown = points.filter(pl.col("megabytes").is_null())["label"].unique(maintain_order=True)
    if len(unknown):
        notes.append(f"size unknown: {listed(unknown.to_list())}")
    title = _size_title(known, metric, names)
    return with_house_style(Part(vconcat=panels, spacing=14), title, notes)


def _size_panel(points: pl.DataFrame, metric: str, names: LevelNames, is_last: bool) -> Part:
    x = field(
        "megabytes:Q",
        title="weights, MB" if is_last else None,
        scale={"zero": False, "padding": 10},
        axis={"labels": is_last, "tickCount": 6, "format": ",.3~r"},
    )
    y = field(
        "value:Q",
        title=None,
        scale={"zero": False, "reverse": METRIC_DEFINITIONS[metric].higher_is_better is False},
        axis={"tickCount": 5, "minExtent": 34, "maxExtent": 34, "format": ".2f"},
    )
    base = Part(data=points).encode(x=x, y=y)
    marks: list[Part] = []
    if points["ci_low"].null_count() < points.height:
        rule = base.mark("rule", color=GREY, opacity=0.6).encode(y="ci_low:Q", y2="ci_high:Q")
        marks.append(rule)
    title = {
        "text": capitalised_label(metric),
        "subtitle": names.in_baseline_words(axis_title(metric)),
        "fontSize": 12,
        "subtitleFontSize": 10.5,
        "offset": 4,
    }
    return Part(layer=[*marks, _dots(base, names)]).properties(width=WIDTH, height=150, title=title)


def _size_title(known: pl.DataFrame, metric: str, names: LevelNames) -> str:
    """The smallest candidate with stable accuracy, and whether the metric is worse there."""
    stable = known.filter(pl.col("level") > 0, metric="accuracy", verdict=Verdict.equivalent)
    if stable.is_empty():
        return "No candidate with a known size is shown to keep accuracy"
    best = stable.sort("weight_bytes", "level").row(0, named=True)
    whole = known.filter(level=0)["weight_bytes"]
    size = f", with {percent(best['weight_bytes'] / whole[0])} of the baseline's weights"
    text = f"The smallest candidate that keeps accuracy is {names.name(best['level'])}"
    text += size if len(whole) else ""
    hidden = known.filter(level=best["level"], metric=metric, verdict=Verdict.hidden_degradation)
    return f"{text}, but its {label(metric)} is worse" if hidden.height else text


def _labelled(rows: pl.DataFrame, names: LevelNames) -> pl.DataFrame:
    labels = pl.Series([names.labels[level] for level in rows["level"]], dtype=pl.String)
    return rows.with_columns(label=labels)


def _dots(base: Part, names: LevelNames) -> Part:
    """The points, with a legend of the labels: a square in ink is the baseline."""
    labels = list(names.labels.values())
    count = len(labels) - 1
    colours = [INK, *(COLOURS[i % len(COLOURS)] for i in range(count))]
    shapes = ["square", *(SHAPES[i % len(SHAPES)] for i in range(count))]
    legend = {
        "orient": "bottom",
        "title": "square: baseline",
        "columns": 1,
        "labelLimit": WIDTH,
        "symbolOpacity": 1,
    }
    dots: Part = base.mark("point", filled=True, size=70, opacity=1).encode(
        color=field(
            "label:N", sort=labels, scale={"domain": labels, "range": colours}, legend=legend
        ),
        shape=field(
            "label:N", sort=labels, scale={"domain": labels, "range": shapes}, legend=legend
        ),
    )
    return dots
