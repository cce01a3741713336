"""Chart: the correlation of accuracy with each metric over the levels of a run."""

import polars as pl

from prunelake.errors import NothingToShow

from ..findings.level_rows import CORRELATED_METRICS
from ..findings.selection import Selection
from ..findings.wording import label, listed, number
from ..queries import run_metrics
from .definition import NO_CORRELATION, ChartDefinition
from .drawing.house_style import BLUE, GREY, VERMILION, WIDTH, rule_data, with_house_style
from .drawing.vega_lite import Part, field

MAX_NAMED_METRICS = 3
"""The most metrics that a title names for each scope."""

LABELS_WIDTH = 187  # px of the longest label


def correlations_chart(correlations: pl.DataFrame) -> Part:
    """Spearman correlation of accuracy with each metric, over all and over the stable levels.

    Lines are 95 % intervals.
    """
    known = correlations.drop_nulls("spearman")
    scopes = [scope for scope in ("all", "stable") if known.filter(scope=scope).height]
    names = {"all": "all levels", "stable": "stable levels"}
    points = known.select(
        "spearman",
        "spearman_low",
        "spearman_high",
        pl.col("metric").map_elements(label, pl.String),
        pl.col("scope").replace(names),
    )
    order = points["metric"].unique(maintain_order=True).to_list()
    domain = [names[scope] for scope in scopes]
    y = field(
        "metric:N",
        sort=order,
        title=None,
        axis={"minExtent": LABELS_WIDTH, "labelLimit": LABELS_WIDTH, "grid": True},
    )
    base = Part(data=points).encode(
        y=y,
        # On one line, equal coefficients would hide each other.
        yOffset=field("scope:N", sort=domain),
        color=field(
            "scope:N",
            sort=domain,
            scale={"domain": domain, "range": [BLUE, VERMILION][: len(domain)]},
            legend={"orient": "bottom", "direction": "vertical", "title": None},
        ),
    )
    dots = base.mark("point", filled=True, size=45, opacity=1).encode(
        x=field(
            "spearman:Q",
            title="Spearman correlation with accuracy",
            scale={"domain": [-1, 1]},
            # The title is wider than the plot on a phone.
            axis={"values": [-1, -0.5, 0, 0.5, 1], "grid": True, "titleAnchor": "end"},
        ),
        shape=field(
            "scope:N",
            sort=domain,
            scale={"domain": domain, "range": ["circle", "diamond"][: len(domain)]},
        ),
    )
    marks = [Part(data=rule_data(0.0)).mark("rule", color=GREY).encode(x="value:Q")]
    if points["spearman_low"].null_count() < points.height:
        marks.append(
            base.mark("rule", strokeWidth=2).encode(x="spearman_low:Q", x2="spearman_high:Q")
        )
        notes = ["line: 95 % interval; named if it excludes 0;"]
    else:
        notes = ["no interval is known;"]
    notes.append("levels are nested, not independent draws")
    chart = Part(layer=[*marks, dots]).properties(
        width=WIDTH - 150, height={"step": 24, "for": "position"}
    )
    return with_house_style(chart, _title(known), notes)


def _title(known: pl.DataFrame) -> str:
    """The metrics of each scope whose interval excludes 0; without intervals, all metrics."""
    clauses = []
    for scope, levels in (("all", "levels"), ("stable", "stable levels")):
        rows = known.filter(scope=scope)
        if rows.is_empty():
            continue
        is_apart = (pl.col("spearman_low") > 0) | (pl.col("spearman_high") < 0)
        apart = rows.filter(is_apart | pl.col("spearman_low").is_null())
        strongest = apart.sort(pl.col("spearman").abs(), descending=True).head(MAX_NAMED_METRICS)
        values = [
            f"{label(row['metric'])} ({number(row['spearman'])})"
            for row in strongest.iter_rows(named=True)
        ]
        if apart.height > MAX_NAMED_METRICS:
            values.append(f"{apart.height - MAX_NAMED_METRICS} more")
        metrics = listed(values) if values else "no metric for sure"
        counts = "all" if rows["level_count"].n_unique() > 1 else str(rows["level_count"][0])
        clauses.append(f"over {counts} {levels} with {metrics}")
    return f"Accuracy correlates {'; '.join(clauses)}" if clauses else "No correlation is defined"


def _correlations(rows: pl.DataFrame, selection: Selection) -> Part:
    correlated = rows.filter(pl.col("metric").is_in(CORRELATED_METRICS))
    if correlated.drop_nulls("spearman").is_empty():
        raise NothingToShow(f"no correlation with accuracy is defined in run {selection.run_id}")
    return correlations_chart(correlated)


CORRELATIONS = ChartDefinition(
    "correlations",
    "The correlation of each metric with accuracy over levels.",
    (),
    lambda selection: run_metrics.correlations(selection.run_id),
    _correlations,
    "correlations",
    NO_CORRELATION,
)
