"""Chart: accuracy and metrics over the levels of a run, one panel for each metric."""

from collections.abc import Sequence
from itertools import cycle

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.changes import change_clause, sample_sizes
from ..findings.level_names import LevelNames
from ..findings.level_rows import default_level, is_published
from ..findings.selection import Selection
from ..findings.sentences import accuracy_clause, metric_clause
from .definition import ChartDefinition, headline_metrics, with_accuracy
from .drawing.axis_titles import axis_title, capitalised_label
from .drawing.house_style import GREY, SERIES, WIDTH, rule_data, with_house_style
from .drawing.level_axis import baseline_and_candidates, level_axis
from .drawing.vega_lite import Part, field

CONFIDENCE_PANELS = ("accuracy", "ece", "nll", "flip_rate")
EXPLANATION_PANELS = ("accuracy", "comprehensiveness", "sufficiency", "overlap_10")

COLOURS = SERIES[:4]
"""The colours of the panels from the top; accuracy is the first panel."""

SMALLEST_SPAN = 0.1
"""The smallest span of a y axis; otherwise noise in the third decimal would look large."""


def levels_chart(levels: pl.DataFrame, metrics: Sequence[str]) -> Part:
    """One panel for each metric over the removed layers; metrics without values are left out.

    A dotted line marks the unpruned value. A vertical rule marks level 0. A dotted rule marks the
    deepest level with stable accuracy, or, if there is none, the first level. A dashed grey line is
    the random ranking. Candidates are points with intervals, and grey ticks for the random ranking;
    a square is the baseline.
    """
    names = LevelNames.of(levels)
    shown = default_level(levels)
    known = levels.drop_nulls("value")
    present = [metric for metric in metrics if known.filter(metric=metric).height]
    focus = [metric for metric in present if metric != "accuracy"][:2]
    verdicts = [clause for metric in focus if (clause := metric_clause(levels, metric))]
    # Metrics without verdicts are described by their change.
    clauses = verdicts or list(filter(None, (change_clause(levels, metric) for metric in focus)))
    if is_published(levels):
        notes = ["published without examples: no intervals, no verdicts"]
    else:
        interval = "square: baseline; bar" if names.is_comparison else "band"
        notes = [f"{interval}: 95 % interval; {sample_sizes(levels, present)}"]
    notes[-1] += ";"
    dotted = names.in_baseline_words("unpruned")
    if shown and not names.is_comparison:
        dotted += f", upright: level {shown}"
    notes += [f"dotted: {dotted};", "axes need not start at 0"]
    panels = [
        _panel(
            known.filter(metric=metric), metric, colour, names, shown, is_last=metric == present[-1]
        )
        for metric, colour in zip(present, cycle(COLOURS), strict=False)
    ]
    title = "; ".join([accuracy_clause(levels), *clauses])
    return with_house_style(Part(vconcat=panels, spacing=14), title, notes)


def _panel(
    points: pl.DataFrame,
    metric: str,
    colour: str,
    names: LevelNames,
    shown: int | None,
    is_last: bool,
) -> Part:
    subtitle = names.in_baseline_words(axis_title(metric))
    has_random = points["random_value"].null_count() < points.height
    if has_random:
        subtitle += f"; {'grey tick' if names.is_comparison else 'dashed'}: random ranking"
    across = list(names.labels) if names.is_comparison else sorted(points["level"].to_list())
    x = level_axis(names, across, is_labelled=is_last, nice=False)
    y = field(
        "value:Q",
        title=None,
        scale={"domain": _domain(points), "zero": False, "nice": True},
        axis={"tickCount": 4, "minExtent": 34, "maxExtent": 34, "format": ".2f"},
    )
    base = Part(data=points)
    marks: list[Part] = []
    if not names.is_comparison:
        marks.append(Part(data=rule_data(0, "level")).mark("rule", color=GREY).encode(x=x))
        if shown:
            marks.append(
                Part(data=rule_data(shown, "level"))
                .mark("rule", color=GREY, strokeDash=[2, 2])
                .encode(x=x)
            )
    marks.append(
        Part(data=points.filter(level=0).select("value"))
        .mark("rule", color=GREY, strokeDash=[1, 3])
        .encode(y="value:Q")
    )
    if points["ci_low"].null_count() < points.height:
        if names.is_comparison:
            band = base.mark("rule", color=colour, strokeWidth=1.5)
        else:
            band = base.mark("area", color=colour, opacity=0.15)
        marks.append(band.encode(x=x, y="ci_low:Q", y2="ci_high:Q"))
    if has_random:
        if names.is_comparison:
            ranking = base.mark("tick", color=GREY, thickness=2, size=14)
        else:
            ranking = base.mark("line", color=GREY, strokeDash=[6, 4], strokeWidth=1.5)
        marks.append(ranking.encode(x=x, y="random_value:Q"))
    dots = base.mark("point", color=colour, filled=True, size=40, opacity=1)
    if names.is_comparison:
        marks += baseline_and_candidates(dots.encode(x=x, y=y))
    else:
        marks += [
            base.mark("line", color=colour, strokeWidth=2).encode(x=x, y=y),
            dots.encode(x=x, y=y),
        ]
    title = {
        "text": capitalised_label(metric),
        "subtitle": subtitle,
        "fontSize": 12,
        "subtitleFontSize": 10.5,
        "offset": 4,
    }
    return Part(layer=marks).properties(width=WIDTH, height=90, title=title)


def _domain(points: pl.DataFrame) -> list[float]:
    columns = ("value", "random_value", "ci_low", "ci_high")
    values = [value for column in columns for value in points[column].drop_nulls().to_list()]
    low, high = min(values), max(values)
    missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
    return [low - missing, high + missing]


def _levels(rows: pl.DataFrame, selection: Selection) -> Part:
    return levels_chart(rows, with_accuracy(rows, selection, "value"))


def _confidence(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(metric="accuracy").drop_nulls("value").is_empty():
        raise NothingToShow(f"no accuracy of run {selection.run_id} could be computed")
    return levels_chart(rows, CONFIDENCE_PANELS)


def _explanations(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(metric="comprehensiveness").drop_nulls("value").is_empty():
        raise NothingToShow(
            f"run {selection.run_id} has predictions only; a sweep with --methods "
            "difference_shap adds explanations"
        )
    return levels_chart(rows, EXPLANATION_PANELS)


LEVELS = ChartDefinition(
    "levels",
    "Accuracy and a metric over levels.",
    ("metric",),
    headline_metrics,
    _levels,
    candidate_caption="Accuracy and a metric of each candidate.",
)


CONFIDENCE = ChartDefinition(
    "confidence",
    "Accuracy and confidence over levels.",
    (),
    headline_metrics,
    _confidence,
    candidate_caption="Accuracy and confidence of each candidate.",
)


EXPLANATIONS = ChartDefinition(
    "explanations",
    "Accuracy and faithfulness of explanations over levels.",
    (),
    headline_metrics,
    _explanations,
    candidate_caption="Accuracy and faithfulness of explanations of each candidate.",
)
