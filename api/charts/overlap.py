"""Chart: the overlap of the top tokens between the explanations of any two levels."""

import altair as alt
import polars as pl

from ..findings.wording import number, percent
from .drawing import INK, SEQUENTIAL, WIDTH, with_house_style

SMALLEST_WITH_NUMBER = 15  # px of a cell


def overlap_chart(overlaps: pl.DataFrame) -> alt.LayerChart:
    """level x level: the share of the top 10 tokens in common, in percent if a cell has room.

    Levels that share no explained example with level 0 are left out. The subtitle gives the overlap
    between two seeds for comparison: it shows the noise of the explanation method.
    """
    levels = sorted(set(overlaps.filter(other_level=0)["level"]))
    size = WIDTH // len(levels) if len(levels) > 6 else WIDTH // 6
    axis = alt.Axis(domain=False, ticks=False, labelAngle=0, labelOverlap=True)
    scale = alt.Scale(domain=levels, paddingInner=0.04, paddingOuter=0)
    cells = overlaps.filter(
        pl.col("level").is_in(levels), pl.col("other_level").is_in(levels)
    ).select("level", "other_level", "overlap", (100 * pl.col("overlap")).round().alias("percent"))
    base = alt.Chart(cells).encode(
        x=alt.X("other_level:O", title="removed layers (0 = unpruned)", scale=scale, axis=axis),
        y=alt.Y("level:O", title="removed layers", scale=scale, axis=axis),
    )
    rectangles = base.mark_rect().encode(
        color=alt.Color(
            "overlap:Q",
            scale=alt.Scale(domain=[0, 1], range=list(SEQUENTIAL), interpolate="rgb"),
            legend=alt.Legend(
                title="share of top 10 tokens in common",
                titleLimit=WIDTH,
                orient="bottom",
                direction="horizontal",
                offset=8,
                gradientLength=200,
                gradientThickness=10,
                format="%",
                values=[0, 0.5, 1],
            ),
        )
    )
    marks = [rectangles]
    if size >= SMALLEST_WITH_NUMBER:
        numbers = base.mark_text(fontSize=8 if size < 22 else 10, color=INK)
        marks.append(numbers.encode(text="percent:Q"))
    chart = alt.LayerChart(layer=marks).properties(
        width=size * len(levels), height=size * len(levels)
    )
    return with_house_style(chart, *_title_and_notes(overlaps, levels), size * len(levels))


def _title_and_notes(overlaps: pl.DataFrame, levels: list[int]) -> tuple[str, list[str]]:
    """The overlap of the deepest level with the unpruned model, and the overlap of two seeds."""
    at = levels[-1]
    deepest = overlaps.filter(level=at, other_level=0).row(0, named=True)
    title = (
        f"At level {at} the explanation shares {percent(deepest['overlap'])} of its top 10 tokens "
        "with the unpruned model's"
    )
    notes = [f"{deepest['method']}, n = {deepest['n']}; cells: percent;"]
    if deepest["ci_low"] is not None:
        reach = f"{number(100 * deepest['ci_low'], 0)} to {percent(deepest['ci_high'])}"
        notes.insert(0, f"95 % interval at level {at}: {reach};")
    seeds = overlaps.filter(pl.col("level") == pl.col("other_level")).select(
        "level", "seed_overlap"
    )
    noise = dict(seeds.drop_nulls().iter_rows())
    shares = [
        f"{percent(noise[level])} {where}"
        for level, where in ((0, "unpruned"), (at, f"at level {at}"))
        if level in noise
    ]
    if shares:
        notes.append("the explainer's own noise: two seeds share")
        notes.append(" and ".join(shares))
    else:
        notes.append("one seed: the explainer's own noise is not known")
    return title, notes
