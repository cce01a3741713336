"""Panels of metrics over levels."""

from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.levels import CONFIDENCE_PANELS, EXPLANATION_PANELS, levels_chart
from tests.support.api.chart_rows import LEVELS, data_of, spec
from tests.support.runs.example_runs import metric_rows

CHART = levels_chart(LEVELS, EXPLANATION_PANELS)


def test_each_panel_shows_its_metric_as_given() -> None:
    panels = spec(CHART)["vconcat"]
    assert [panel["title"]["text"] for panel in panels] == [
        "Accuracy",
        "Comprehensiveness",
        "Sufficiency",
        "Overlap of top 10 tokens",
    ]
    datasets = spec(CHART)["datasets"]
    for panel, metric in zip(panels, EXPLANATION_PANELS, strict=True):
        names = {layer["data"]["name"] for layer in panel["layer"] if "data" in layer}
        names |= {panel["data"]["name"]} if "data" in panel else set()
        shown = [datasets[name] for name in names if {"level", "value"} <= datasets[name][0].keys()]
        assert len(shown) == 1
        given = LEVELS.filter(metric=metric)
        assert pl.DataFrame(shown[0])["level"].to_list() == given["level"].to_list()
        assert pl.DataFrame(shown[0])["value"].to_list() == given["value"].to_list()
        assert [row["random_value"] for row in shown[0]] == given["random_value"].to_list()


def test_only_metrics_with_a_random_ranking_draw_it_dashed() -> None:
    for panel in spec(CHART)["vconcat"]:
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
    assert data_of(chart, "level", "ci_low", "ci_high").rows() == given.rows()


def test_published_values_have_no_band_and_say_so() -> None:
    published = metric_rows(None, None, accuracy={0: 0.6, 2: 0.5}, ece={0: 0.1, 2: 0.2})
    chart = levels_chart(published, CONFIDENCE_PANELS)
    assert house_style.title(chart) == (
        "Published accuracy is 0.60 unpruned, 0.50 at level 2; ECE 0.10 to 0.20 (published without "
        "examples: no intervals, no verdicts; dotted: unpruned, upright: level 2; axes need not "
        "start at 0)"
    )
    marks = {layer["mark"]["type"] for panel in spec(chart)["vconcat"] for layer in panel["layer"]}
    assert "area" not in marks
    ElementTree.fromstring(formats.svg(house_style.vega_lite(chart)))


def test_a_panel_without_values_is_left_out() -> None:
    nothing = metric_rows(accuracy={0: 0.5, 2: 0.5}, ece={0: None, 2: None})
    panels = spec(levels_chart(nothing, CONFIDENCE_PANELS))["vconcat"]
    assert [panel["title"]["text"] for panel in panels] == ["Accuracy"]


def test_no_axis_makes_noise_look_like_a_collapse() -> None:
    flat = metric_rows(None, ece={0: 0.2, 2: 0.201})
    (panel,) = spec(levels_chart(flat, ["ece"]))["vconcat"]
    (domain,) = [
        layer["encoding"]["y"]["scale"]["domain"]
        for layer in panel["layer"]
        if "scale" in layer["encoding"].get("y", {})
    ][:1]
    assert domain == pytest.approx([0.1505, 0.2505])


def test_a_run_of_the_unpruned_model_alone_can_be_drawn() -> None:
    alone = metric_rows(accuracy={0: 0.5}, ece={0: 0.1})
    chart = levels_chart(alone, CONFIDENCE_PANELS)
    assert house_style.title(chart).startswith("Accuracy is 0.50 unpruned; no pruned level")
    ElementTree.fromstring(formats.svg(house_style.vega_lite(chart)))
