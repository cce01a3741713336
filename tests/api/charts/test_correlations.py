"""Correlations of metrics with accuracy."""

from xml.etree import ElementTree

import polars as pl

from prunelake.api.charts.correlations import correlations_chart
from prunelake.api.charts.drawing import formats, house_style
from tests.support.api.chart_rows import CORRELATIONS, data_of, spec

CHART = correlations_chart(CORRELATIONS)


def test_correlations_are_shown_by_scope_with_their_interval() -> None:
    points = data_of(CHART, "metric", "scope", "spearman", "spearman_low", "spearman_high")
    assert points.rows() == [
        ("ECE", "all levels", -0.8, -0.9, -0.6),
        ("ECE", "stable levels", 0.5, -0.2, 0.9),
        ("comprehensiveness", "all levels", 0.7, -0.1, 1.0),
    ]
    marks = [layer["mark"]["type"] for layer in spec(CHART)["layer"]]
    assert marks == ["rule", "rule", "point"]


def test_the_strongest_correlations_are_named_and_the_rest_counted() -> None:
    strengths = {"ece": 0.6, "nll": -0.9, "brier": -0.7, "auroc": 0.8, "sufficiency": 0.1}
    known = pl.DataFrame(
        {
            "metric": list(strengths),
            "scope": "all",
            "spearman": list(strengths.values()),
            "spearman_low": [s - 0.2 for s in strengths.values()],
            "spearman_high": [s + 0.2 for s in strengths.values()],
            "level_count": 8,
        }
    )
    assert house_style.title(correlations_chart(known)).startswith(
        "Accuracy correlates over 8 levels with NLL (\N{MINUS SIGN}0.90), AUROC of confidence "
        "(0.80), Brier score (\N{MINUS SIGN}0.70) and 1 more ("
    )
    differing = known.with_columns(level_count=pl.Series([8, 7, 8, 8, 8]))
    assert "over all levels with NLL" in house_style.title(correlations_chart(differing))


def test_correlations_without_intervals_say_so() -> None:
    untold = CORRELATIONS.filter(scope="all").with_columns(spearman_low=None, spearman_high=None)
    chart = correlations_chart(untold.cast({"spearman_low": pl.Float64}))
    assert house_style.title(chart) == (
        "Accuracy correlates over 8 levels with ECE (\N{MINUS SIGN}0.80) and comprehensiveness "
        "(0.70) (no interval is known; levels are nested, not independent draws)"
    )
    assert [layer["mark"]["type"] for layer in spec(chart)["layer"]] == ["rule", "point"]
    ElementTree.fromstring(formats.svg(house_style.vega_lite(chart)))
