"""Rows of queries for charts, and the data that a chart draws."""

from typing import Any

import polars as pl
from altair.vegalite.v6.schema.core import Root

from prunelake.api.charts.drawing import house_style
from prunelake.api.charts.drawing.vega_lite import Part
from tests.support.runs.example_runs import metric_rows

LEVELS = metric_rows(
    verdicts={
        "accuracy": {4: "equivalent", 8: "visible degradation"},
        "ece": {4: "hidden degradation", 8: "visible degradation"},
        "comprehensiveness": {4: "hidden degradation", 8: "visible degradation"},
        "sufficiency": {4: "inconclusive", 8: "visible degradation"},
    },
    accuracy={0: 0.61, 4: 0.6, 8: 0.4},
    ece={0: 0.1, 4: 0.17, 8: 0.3},
    mean_confidence={0: 0.7, 4: 0.75, 8: 0.8},
    flip_rate={0: 0.0, 4: 0.1, 8: 0.2},
    comprehensiveness={0: 0.3, 4: 0.2, 8: 0.1},
    random_comprehensiveness={0: 0.1, 4: 0.11, 8: 0.12},
    sufficiency={0: 0.1, 4: 0.2, 8: 0.3},
    random_sufficiency={0: 0.2, 4: 0.21, 8: 0.22},
    overlap_10={0: 1.0, 4: 0.6, 8: 0.5},
)


LAYERS = pl.DataFrame(
    {
        "layer": range(30),
        "importance": [0.001 * (1 + (7 * i) % 30) for i in range(30)],
        "rank": [(7 * i) % 30 for i in range(30)],
    }
)


CORRELATIONS = pl.DataFrame(
    {
        "metric": ["ece", "ece", "comprehensiveness", "comprehensiveness", "auroc"],
        "scope": ["all", "stable", "all", "stable", "all"],
        "spearman": [-0.8, 0.5, 0.7, None, None],
        "spearman_low": [-0.9, -0.2, -0.1, None, None],
        "spearman_high": [-0.6, 0.9, 1.0, None, None],
        "level_count": [8, 4, 8, 2, 2],
    }
)


RELIABILITY = pl.DataFrame(
    {
        "level": [0, 0, 4, 4, 8],
        "bin_low": [0.5, 0.8, 0.5, 0.9, 0.9],
        "bin_high": [0.6, 0.9, 0.6, 1.0, 1.0],
        "n": [30, 10, 20, 20, 40],
        "mean_confidence": [0.55, 0.85, 0.55, 0.95, 0.99],
        "accuracy": [0.5, 0.8, 0.55, 0.45, 0.2],
    }
)


def spec(chart: Part) -> dict[str, Any]:
    """The Vega-Lite of a chart, which altair validates against the schema."""
    drawn = house_style.vega_lite(chart)
    Root.validate(drawn)
    return drawn


def data_of(chart: Part, *columns: str) -> pl.DataFrame:
    """The only data set of the chart with these columns."""
    (data,) = (rows for rows in spec(chart)["datasets"].values() if set(columns) <= rows[0].keys())
    return pl.DataFrame(data).select(columns)
