"""Chart: the verdict on every metric at every level."""

import json
from collections.abc import Iterable
from textwrap import wrap

import polars as pl

from prunelake.errors import NothingToShow
from prunelake.schema.verdicts import Verdict

from ..findings.level_names import LevelNames
from ..findings.level_rows import (
    HIDDEN_VERDICTS,
    JUDGED_METRICS,
    WORSE_VERDICTS,
    levels_with_verdict,
    stable_levels,
)
from ..findings.selection import Selection
from ..findings.sentences import accuracy_clause
from ..findings.verdict_labels import VERDICT_LABELS
from ..findings.wording import label, listed
from .definition import ChartDefinition, headline_metrics
from .drawing.axis_titles import capitalised_label
from .drawing.house_style import INK, ON_COLOUR, WIDTH, with_house_style
from .drawing.level_axis import candidate_axis, candidate_axis_height
from .drawing.vega_lite import Part, field
from .drawing.verdict_style import VERDICT_STYLES, by_severity, legend_label

MAX_NAMED_METRICS = 4
"""The most metrics that the title names."""

LABELS_WIDTH, LABEL_LENGTH = 100, 19  # px, characters
ROW_HEIGHT = 26  # px
LINE_HEIGHT = 11  # px


def verdicts_chart(levels: pl.DataFrame) -> Part:
    """level x metric: the verdict as colour and mark, with accuracy on top.

    Level 0 and levels without a verdict have no cells. `levels` has at least one verdict.
    """
    names = LevelNames.of(levels)
    cells = levels.filter(pl.col("metric").is_in(JUDGED_METRICS)).drop_nulls("verdict")
    present = [metric for metric in JUDGED_METRICS if cells.filter(metric=metric).height]
    verdicts = by_severity(cells["verdict"].to_list())
    texts = {v: f"{VERDICT_LABELS[v].mark}  {legend_label(v, names)}" for v in verdicts}
    rows = {metric: capitalised_label(metric) for metric in present}
    across = sorted(set(cells["level"].to_list()))
    width = max(WIDTH - LABELS_WIDTH + 30, 11 * len(across))
    axis = {"labelAngle": 0, "labelOverlap": True, "domain": False, "ticks": False}
    axis_height = 48
    if names.is_comparison:
        axis_height = candidate_axis_height(names, across, width)
        axis = candidate_axis(names, across, width, domain=False, ticks=False)
    drawn = cells.select(
        "level",
        pl.col("metric").replace(rows),
        pl.col("verdict").replace(texts),
        pl.col("verdict").replace({v: VERDICT_LABELS[v].mark for v in verdicts}).alias("mark"),
    )
    y = field(
        "metric:N",
        sort=list(rows.values()),
        axis=None,
        scale={"paddingInner": 0.08, "paddingOuter": 0.04},
    )
    base = Part(data=drawn).encode(
        x=field(
            "level:O",
            title="candidate" if names.is_comparison else "removed layers",
            sort=across,
            axis=axis,
            scale={"paddingInner": 0.06, "paddingOuter": 0.03},
        ),
        y=y,
    )
    colours = base.mark("rect").encode(
        color=field(
            "verdict:N",
            scale={
                "domain": list(texts.values()),
                "range": [VERDICT_STYLES[v].colour for v in verdicts],
            },
            legend={
                "orient": "none",
                "legendX": -LABELS_WIDTH,
                "legendY": ROW_HEIGHT * len(present) + axis_height,
                "title": None,
                "direction": "vertical",
                "labelLimit": WIDTH,
                "symbolType": "square",
                "symbolSize": 110,
            },
        )
    )
    is_faint = "datum.verdict == " + json.dumps(texts.get(Verdict.inconclusive))
    marks = base.mark("text", fontSize=11, fontWeight="bold", color=ON_COLOUR).encode(text="mark:N")
    faint = base.mark("text", fontSize=11, color=INK).encode(text="mark:N")
    row_names = Part(data=_lines(rows.values())).mark(
        "text", align="right", dx=-4, dy={"expr": "datum.down"}, fontSize=10, color=INK
    )
    layers = [
        row_names.encode(x={"value": 0}, y=y, text="line:N"),
        colours,
        marks.filter(f"!({is_faint})"),
        faint.filter(is_faint),
    ]
    chart = Part(layer=layers).properties(width=width, height=ROW_HEIGHT * len(present))
    notes = ["worse, better: p at most 0.05, adjusted for false", "discoveries over the whole lake"]
    return with_house_style(chart, _title(levels), notes)


def _title(levels: pl.DataFrame) -> str:
    """The verdict on accuracy, and the metrics that are worse at its stable levels, or anywhere."""
    names = LevelNames.of(levels)
    is_stable = bool(stable_levels(levels))
    verdicts = HIDDEN_VERDICTS if is_stable else WORSE_VERDICTS
    worse = [label(m) for m in JUDGED_METRICS[1:] if levels_with_verdict(levels, m, verdicts)]
    if len(worse) > MAX_NAMED_METRICS + 1:
        worse = [*worse[:MAX_NAMED_METRICS], f"{len(worse) - MAX_NAMED_METRICS} more"]
    at = stable_levels(levels) or levels["level"].to_list()
    judged = levels.filter(
        pl.col("metric").is_in(JUDGED_METRICS[1:]), pl.col("level").is_in(at)
    ).drop_nulls("verdict")
    if not worse and judged.height and (judged["verdict"] == Verdict.inconclusive).all():
        text = "all other metrics are inconclusive" + " there" * is_stable
    elif is_stable:
        text = f"hidden degradation of {listed(worse)}" if worse else "no hidden degradation shown"
    else:
        some = f"{names.preposition} some {names.kind}"
        text = f"worse {some}: {listed(worse)}" if worse else "nothing is shown to be worse"
    return f"{accuracy_clause(levels)}; {text}"


def _lines(names: Iterable[str]) -> pl.DataFrame:
    """The names of the rows in lines, each `down` px from the middle of its row.

    An axis would put the first line of a name in the middle.
    """
    rows = []
    for name in names:
        lines = wrap(name, LABEL_LENGTH)
        for i, line in enumerate(lines):
            down = LINE_HEIGHT * (i - (len(lines) - 1) / 2)
            rows.append({"metric": name, "line": line, "down": down})
    return pl.DataFrame(rows)


def _verdicts(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("metric").is_in(JUDGED_METRICS)).drop_nulls("verdict").is_empty():
        raise NothingToShow(
            f"run {selection.run_id} has no verdicts: they need examples, and a level above 0"
        )
    return verdicts_chart(rows)


VERDICTS = ChartDefinition(
    "verdicts",
    "The verdict on each metric at each level.",
    (),
    headline_metrics,
    _verdicts,
    candidate_caption="The verdict on each metric for each candidate.",
)
