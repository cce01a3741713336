import json
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from api.charts import drawing
from api.charts.correlations import correlations_chart
from api.charts.importance import importance_chart
from api.charts.levels import CONFIDENCE_PANELS, EXPLANATION_PANELS, levels_chart
from api.charts.reliability import reliability_chart
from tests.support.example_runs import metric_rows

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

ALL: dict[str, drawing.Chart] = {
    "confidence": levels_chart(LEVELS, CONFIDENCE_PANELS),
    "explanation": levels_chart(LEVELS, EXPLANATION_PANELS),
    "importance": importance_chart(LAYERS, 15),
    "correlations": correlations_chart(CORRELATIONS),
    "reliability": reliability_chart(RELIABILITY, 4),
}


def spec(chart: drawing.Chart) -> dict[str, Any]:
    """The Vega-Lite of a chart, which altair validates against the schema."""
    return chart.to_dict(validate=True)


def rows_of(chart: drawing.Chart, *columns: str) -> pl.DataFrame:
    """The one data set of the chart that has these columns."""
    found = [rows for rows in spec(chart)["datasets"].values() if set(columns) <= rows[0].keys()]
    assert len(found) == 1
    return pl.DataFrame(found[0]).select(columns)


@pytest.mark.parametrize("name", ALL)
def test_a_chart_is_valid_and_draws_itself_without_network(name: str) -> None:
    text = json.dumps(spec(ALL[name]))
    assert '"url"' not in text
    picture = ElementTree.fromstring(drawing.svg(drawing.vega_lite(ALL[name])))
    assert picture.tag.endswith("svg")
    # A phone is 360 to 430 px wide; wider charts would shrink their letters there.
    assert 200 < float(picture.attrib["width"]) < 380
    drawn = " ".join(part.strip() for part in picture.itertext() if part.strip())
    for line in spec(ALL[name])["title"]["text"]:
        assert line in drawn


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (
            "confidence",
            "Accuracy is stable at level 4; ECE is worse there (band: 95 % interval; n = 80)",
        ),
        (
            "explanation",
            "Accuracy is stable at level 4; comprehensiveness is worse there; sufficiency is "
            "not shown to be worse there (band: 95 % interval; n = 80, explained: n = 10)",
        ),
        (
            "correlations",
            "Accuracy correlates over 8 levels with ECE (\N{MINUS SIGN}0.80); over 4 stable levels "
            "with nothing for sure (line: 95 % interval; named if it excludes 0; levels are "
            "nested, not independent draws)",
        ),
        (
            # (30 x 0.05 + 10 x 0.05) / 40 and (20 x 0 + 20 x 0.5) / 40
            "reliability",
            "Mean confidence minus accuracy: +0.05 unpruned, +0.25 at level 4 (n = 40; "
            "dashed: confidence = accuracy)",
        ),
    ],
)
def test_titles_state_what_the_data_shows(name: str, title: str) -> None:
    assert drawing.title(ALL[name]) == title


def test_each_panel_shows_its_metric_as_given() -> None:
    panels = spec(ALL["explanation"])["vconcat"]
    assert [panel["title"]["text"] for panel in panels] == [
        "Accuracy",
        "Comprehensiveness",
        "Sufficiency",
        "Overlap of top 10 tokens",
    ]
    datasets = spec(ALL["explanation"])["datasets"]
    for panel, metric in zip(panels, EXPLANATION_PANELS, strict=True):
        names = {layer["data"]["name"] for layer in panel["layer"] if "data" in layer}
        names |= {panel["data"]["name"]} if "data" in panel else set()
        shown = [datasets[name] for name in names if "metric" in datasets[name][0]]
        assert len(shown) == 1
        given = LEVELS.filter(metric=metric)
        assert pl.DataFrame(shown[0])["level"].to_list() == given["level"].to_list()
        assert pl.DataFrame(shown[0])["value"].to_list() == given["value"].to_list()
        assert [row["random_value"] for row in shown[0]] == given["random_value"].to_list()


def test_only_metrics_with_a_random_ranking_draw_it_dashed() -> None:
    for panel in spec(ALL["explanation"])["vconcat"]:
        dashed = [
            layer
            for layer in panel["layer"]
            if layer["encoding"].get("y", {}).get("field") == "random_value"
        ]
        has_random = panel["title"]["text"] in ("Comprehensiveness", "Sufficiency")
        assert len(dashed) == has_random
        assert ("random ranking" in panel["title"]["subtitle"]) == has_random
        assert all(layer["mark"]["strokeDash"] for layer in dashed)


@pytest.mark.parametrize("metric", ["accuracy", "ece", "comprehensiveness", "flip_rate"])
def test_the_band_is_the_interval(metric: str) -> None:
    chart = levels_chart(LEVELS, [metric])
    (panel,) = spec(chart)["vconcat"]
    (band,) = [layer for layer in panel["layer"] if layer["mark"]["type"] == "area"]
    assert (band["encoding"]["y"]["field"], band["encoding"]["y2"]["field"]) == (
        "ci_low",
        "ci_high",
    )
    given = LEVELS.filter(metric=metric).select("level", "ci_low", "ci_high")
    assert rows_of(chart, "level", "ci_low", "ci_high").rows() == given.rows()


def test_published_values_have_no_band_and_say_so() -> None:
    published = metric_rows(None, None, accuracy={0: 0.6, 2: 0.5}, ece={0: 0.1, 2: 0.2})
    chart = levels_chart(published, CONFIDENCE_PANELS)
    assert drawing.title(chart) == (
        "Published accuracy is 0.60 unpruned, 0.50 at level 2; ECE 0.10 to 0.20 (published without "
        "examples: no intervals, no verdicts)"
    )
    marks = {layer["mark"]["type"] for panel in spec(chart)["vconcat"] for layer in panel["layer"]}
    assert "area" not in marks
    ElementTree.fromstring(drawing.svg(drawing.vega_lite(chart)))


def test_a_panel_without_values_is_left_out() -> None:
    nothing = metric_rows(accuracy={0: 0.5, 2: 0.5}, ece={0: None, 2: None})
    panels = spec(levels_chart(nothing, CONFIDENCE_PANELS))["vconcat"]
    assert [panel["title"]["text"] for panel in panels] == ["Accuracy"]


def test_no_axis_makes_a_collapse_of_noise() -> None:
    flat = metric_rows(None, ece={0: 0.2, 2: 0.201})
    (panel,) = spec(levels_chart(flat, ["ece"]))["vconcat"]
    (domain,) = [
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in panel["layer"]
        if "scale" in layer["encoding"].get("y", {})
    ][:1]
    assert domain == pytest.approx([0.1505, 0.2505])


@pytest.mark.parametrize(
    ("size", "rows", "per_row"), [(1, 1, 1), (16, 1, 16), (18, 2, 9), (30, 2, 15), (80, 5, 16)]
)
def test_the_strip_breaks_into_even_rows(size: int, rows: int, per_row: int) -> None:
    layers = pl.DataFrame({"layer": range(size), "importance": [0.5] * size, "rank": range(size)})
    cells = rows_of(importance_chart(layers, 1), "layer", "row", "column")
    assert cells.rows() == [(i, i // per_row, i % per_row) for i in range(size)]
    assert cells["row"].n_unique() == rows


def test_the_strip_tells_rank_and_what_is_removed() -> None:
    cells = rows_of(ALL["importance"], "layer", "importance", "removed_at", "is_removed")
    assert cells["importance"].to_list() == LAYERS["importance"].to_list()
    assert cells["removed_at"].to_list() == [rank + 1 for rank in LAYERS["rank"]]
    assert cells["is_removed"].to_list() == [rank < 15 for rank in LAYERS["rank"]]
    assert drawing.title(ALL["importance"]).startswith(
        "Layer 0 is removed first, layer 17 would be last"
    )


@pytest.mark.parametrize(("lowest", "scale"), [(0.01, "log"), (0.0, "linear"), (-1e-9, "linear")])
def test_importance_is_on_a_log_scale_where_there_is_one(lowest: float, scale: str) -> None:
    layers = pl.DataFrame({"layer": [0, 1], "importance": [lowest, 0.5], "rank": [0, 1]})
    chart = importance_chart(layers, 1)
    assert spec(chart)["layer"][0]["encoding"]["color"]["scale"]["type"] == scale
    ElementTree.fromstring(drawing.svg(drawing.vega_lite(chart)))


def test_correlations_are_shown_by_scope_with_their_interval() -> None:
    points = rows_of(
        ALL["correlations"], "metric", "scope", "spearman", "spearman_low", "spearman_high"
    )
    assert points.rows() == [
        ("ECE", "all levels", -0.8, -0.9, -0.6),
        ("ECE", "levels of stable accuracy", 0.5, -0.2, 0.9),
        ("comprehensiveness", "all levels", 0.7, -0.1, 1.0),
    ]
    marks = [layer["mark"]["type"] for layer in spec(ALL["correlations"])["layer"]]
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
    assert drawing.title(correlations_chart(known)).startswith(
        "Accuracy correlates over 8 levels with NLL (\N{MINUS SIGN}0.90), AUROC of confidence "
        "(0.80), Brier score (\N{MINUS SIGN}0.70) and 1 more ("
    )
    differing = known.with_columns(level_count=pl.Series([8, 7, 8, 8, 8]))
    assert "over all levels with NLL" in drawing.title(correlations_chart(differing))


def test_correlations_without_intervals_say_so() -> None:
    untold = CORRELATIONS.filter(scope="all").with_columns(spearman_low=None, spearman_high=None)
    chart = correlations_chart(untold.cast({"spearman_low": pl.Float64}))
    assert drawing.title(chart) == (
        "Accuracy correlates over 8 levels with ECE (\N{MINUS SIGN}0.80) and comprehensiveness "
        "(0.70) (no interval is known; levels are nested, not independent draws)"
    )
    assert [layer["mark"]["type"] for layer in spec(chart)["layer"]] == ["rule", "point"]
    ElementTree.fromstring(drawing.svg(drawing.vega_lite(chart)))


@pytest.mark.parametrize(
    ("level", "models"),
    [(4, ["unpruned", "level 4"]), (8, ["unpruned", "level 8"]), (0, ["unpruned"])],
)
def test_reliability_sets_one_level_beside_the_unpruned(level: int, models: list[str]) -> None:
    chart = reliability_chart(RELIABILITY, level)
    columns = ("level", "mean_confidence", "accuracy", "n")
    shown = rows_of(chart, *columns)
    given = RELIABILITY.filter(pl.col("level").is_in([0, level])).select(columns)
    assert shown.rows() == given.rows()
    assert rows_of(chart, "model", "n")["model"].unique(maintain_order=True).to_list() == models
    ElementTree.fromstring(drawing.svg(drawing.vega_lite(chart)))


def test_a_run_of_the_unpruned_model_alone_can_be_drawn() -> None:
    alone = metric_rows(accuracy={0: 0.5}, ece={0: 0.1})
    chart = levels_chart(alone, CONFIDENCE_PANELS)
    assert drawing.title(chart).startswith("Accuracy is 0.50 unpruned; no pruned level")
    ElementTree.fromstring(drawing.svg(drawing.vega_lite(chart)))
