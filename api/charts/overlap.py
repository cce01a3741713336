"""Chart: the overlap of the top tokens between the explanations of any two levels."""

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.level_names import REMOVALS, LevelNames
from ..findings.selection import Selection
from ..findings.wording import number, percent
from ..queries import charts
from .definition import ChartDefinition
from .drawing.house_style import INK, SEQUENTIAL, WIDTH, with_house_style
from .drawing.level_axis import candidate_axis
from .drawing.vega_lite import Part, field

SMALLEST_WITH_NUMBER = 15  # px of a cell
ROW_LABEL = 84  # px of a candidate's label beside its row


def overlap_chart(overlaps: pl.DataFrame, names: LevelNames = REMOVALS) -> Part:
    """level x level: the share of the top 10 tokens in common, in percent if a cell has room.

    Levels that share no explained example with level 0 are left out. The subtitle gives the overlap
    between two seeds for comparison: it shows the noise of the explanation method.
    """
    levels = sorted(set(overlaps.filter(other_level=0)["level"]))
    largest = ROW_LABEL if names.is_comparison else WIDTH // 6
    size = min(largest, WIDTH // len(levels))
    width = size * len(levels)
    axis = {"domain": False, "ticks": False, "labelAngle": 0, "labelOverlap": True}
    x_axis, y_axis, x_title, y_title = axis, axis, "removed layers (0 = unpruned)", "removed layers"
    if names.is_comparison:
        x_axis = candidate_axis(names, levels, width, domain=False, ticks=False)
        y_axis = candidate_axis(names, levels, ROW_LABEL * len(levels), domain=False, ticks=False)
        x_title = y_title = "candidate"
    scale = {"domain": levels, "paddingInner": 0.04, "paddingOuter": 0}
    cells = overlaps.filter(
        pl.col("level").is_in(levels), pl.col("other_level").is_in(levels)
    ).select("level", "other_level", "overlap", (100 * pl.col("overlap")).round().alias("percent"))
    base = Part(data=cells).encode(
        x=field("other_level:O", title=x_title, scale=scale, axis=x_axis),
        y=field("level:O", title=y_title, scale=scale, axis=y_axis),
    )
    rectangles = base.mark("rect").encode(
        color=field(
            "overlap:Q",
            scale={"domain": [0, 1], "range": list(SEQUENTIAL), "interpolate": "rgb"},
            legend={
                "title": "share of top 10 tokens in common",
                "titleLimit": WIDTH,
                "orient": "bottom",
                "direction": "horizontal",
                "offset": 8,
                "gradientLength": 200,
                "gradientThickness": 10,
                "format": "%",
                "values": [0, 0.5, 1],
            },
        )
    )
    marks = [rectangles]
    if size >= SMALLEST_WITH_NUMBER:
        numbers = base.mark("text", fontSize=8 if size < 22 else 10, color=INK)
        marks.append(numbers.encode(text="percent:Q"))
    chart = Part(layer=marks).properties(width=width, height=width)
    return with_house_style(chart, *_title_and_notes(overlaps, levels, names), width)


def _title_and_notes(
    overlaps: pl.DataFrame, levels: list[int], names: LevelNames
) -> tuple[str, list[str]]:
    """The overlap of the deepest level with the unpruned model, and the overlap of two seeds.

    For candidates: the candidate with the smallest overlap.
    """
    with_baseline = overlaps.filter(pl.col("level") > 0, other_level=0)
    at = levels[-1]
    if names.is_comparison:
        at = with_baseline.sort("overlap", "level")["level"][0]
    where = names.at([at])
    deepest = with_baseline.filter(level=at).row(0, named=True)
    title = (
        f"{where[0].upper()}{where[1:]} the explanation shares {percent(deepest['overlap'])} "
        f"of its top 10 tokens with {names.baseline}'s"
    )
    notes = [f"{deepest['method']}, n = {deepest['n']}; cells: percent;"]
    if deepest["ci_low"] is not None:
        reach = f"{number(100 * deepest['ci_low'], 0)} to {percent(deepest['ci_high'])}"
        notes.insert(0, f"95 % interval {where}: {reach};")
    seeds = overlaps.filter(pl.col("level") == pl.col("other_level")).select(
        "level", "seed_overlap"
    )
    noise = dict(seeds.drop_nulls().iter_rows())
    shares = [
        f"{percent(noise[level])} {where}"
        for level, where in ((0, names.in_baseline_words("unpruned")), (at, where))
        if level in noise
    ]
    if shares:
        notes.append("the explainer's own noise: two seeds share")
        notes.append(" and ".join(shares))
    else:
        notes.append("one seed: the explainer's own noise is not known")
    return title, notes


def _overlap(rows: pl.DataFrame, selection: Selection) -> Part:
    if rows.filter(pl.col("level") > 0, other_level=0).is_empty():
        kind = "candidate whose explanations can be compared with the baseline's"
        missing = kind if selection.names.is_comparison else "pruned level"
        raise NothingToShow(f"run {selection.run_id} explains no {missing}")
    return overlap_chart(rows, selection.names)


OVERLAP = ChartDefinition(
    "overlap",
    "Overlap of the top 10 tokens between the explanations of any two levels.",
    (),
    lambda selection: charts.overlap_matrix(selection.run_id),
    _overlap,
    "explanations of single examples by a method that can compare levels (difference_shap "
    "cannot, --methods leverage_shap can)",
    candidate_caption="Overlap of the top 10 tokens of any two candidates.",
)
