"""Chart: accuracy against confidence, before and after pruning."""

from statistics import NormalDist
from typing import Any

import polars as pl

from ..findings.level_names import REMOVALS, LevelNames
from ..findings.wording import signed
from ..queries import charts
from .definition import ChartDefinition
from .drawing.house_style import BLUE, GREY, VERMILION, WIDTH, with_house_style
from .drawing.vega_lite import Part, field


def reliability_chart(reliability: pl.DataFrame, level: int, names: LevelNames = REMOVALS) -> Part:
    """Accuracy against confidence in each bin of confidence, at level 0 and at a level."""
    unpruned = names.labels.get(0, "unpruned")
    bins = reliability.filter(pl.col("level").is_in([0, level])).with_columns(
        pl.when(pl.col("level") == 0)
        .then(pl.lit(unpruned))
        .otherwise(pl.lit(names.name(level)))
        .alias("model")
    )
    models = bins.sort("level")["model"].unique(maintain_order=True).to_list()
    places = {level: names.at([level]), 0: names.at([0]) if names.is_comparison else "unpruned"}
    gaps = [
        f"{_confidence_gap(bins.filter(level=at))} {places[at]}"
        for at in sorted(set(bins["level"]))
    ]
    title = f"Mean confidence minus accuracy: {', '.join(gaps)}"
    largest = max(bins["n"].to_list())
    bins = _with_intervals(bins)
    unit = {"domain": [0, 1]}
    # Labels of candidates may be too long for one line.
    layout: dict[str, Any] = (
        {"direction": "vertical", "labelLimit": WIDTH // 2 + 50} if names.is_comparison else {}
    )
    base = Part(data=bins).encode(
        x=field("mean_confidence:Q", title="mean confidence in the bin", scale=unit),
        y=field("accuracy:Q", title="accuracy in the bin", scale=unit),
        color=field(
            "model:N",
            sort=models,
            scale={"domain": models, "range": [BLUE, VERMILION][: len(models)]},
            legend={"orient": "bottom", "title": None, "symbolSize": 70} | layout,
        ),
    )
    ends = pl.DataFrame({"mean_confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    diagonal = (
        Part(data=ends)
        .mark("line", color=GREY, strokeDash=[4, 3], strokeWidth=1)
        .encode(x="mean_confidence:Q", y="accuracy:Q")
    )
    # A rule with a shape would get a point at its end.
    dots = base.mark("point", filled=True, opacity=0.85).encode(
        shape=field(
            "model:N",
            sort=models,
            scale={"domain": models, "range": ["circle", "diamond"][: len(models)]},
        ),
        size=field(
            "n:Q",
            scale={"type": "linear", "domainMin": 0, "range": [40, 320]},
            legend={
                "orient": "bottom",
                "title": "examples",
                "values": sorted({1, largest}),
                "symbolFillColor": GREY,
            },
        ),
    )
    bars = base.mark("rule", opacity=0.5, strokeWidth=1.5).encode(
        y="accuracy_low:Q", y2="accuracy_high:Q"
    )
    chart = Part(layer=[diagonal, bars, dots]).properties(width=WIDTH, height=WIDTH)
    total = bins.filter(level=0)["n"].sum()
    notes = [f"n = {total}; bar: 95 % interval;", "dashed: confidence = accuracy"]
    return with_house_style(chart, title, notes)


def _with_intervals(bins: pl.DataFrame) -> pl.DataFrame:
    """The bins with Wilson's 95 % interval of their accuracy."""
    square = NormalDist().inv_cdf(0.975) ** 2
    n, share = pl.col("n"), pl.col("accuracy")
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = (square * (share * (1 - share) / n + square / (4 * n**2))).sqrt() / (1 + square / n)
    return bins.with_columns(accuracy_low=middle - half, accuracy_high=middle + half)


def _confidence_gap(bins: pl.DataFrame) -> str:
    gap = (pl.col("mean_confidence") - pl.col("accuracy")) * pl.col("n")
    mean: float = bins.select(gap.sum() / pl.col("n").sum()).item()
    return signed(mean)


RELIABILITY = ChartDefinition(
    "reliability",
    "Reliability: accuracy against confidence, in 10 bins of confidence.",
    ("level",),
    lambda selection: charts.reliability(selection.run_id, selection.level),
    lambda rows, selection: reliability_chart(rows, selection.level, selection.names),
    "predictions of single examples",
)
