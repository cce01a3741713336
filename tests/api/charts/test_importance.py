"""The strip of layers with their importance."""

from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.importance import chart_of_importance, importance_chart
from tests.support.api.chart_rows import LAYERS, data_of, spec

CHART = importance_chart(LAYERS, 15)


@pytest.mark.parametrize(
    ("size", "rows", "per_row"), [(1, 1, 1), (16, 1, 16), (18, 2, 9), (30, 2, 15), (80, 5, 16)]
)
def test_the_strip_breaks_into_even_rows(size: int, rows: int, per_row: int) -> None:
    layers = pl.DataFrame({"layer": range(size), "importance": [0.5] * size, "rank": range(size)})
    cells = data_of(importance_chart(layers, 1), "layer", "row", "column")
    assert cells.rows() == [(i, i // per_row, i % per_row) for i in range(size)]
    assert cells["row"].n_unique() == rows


def test_the_strip_shows_the_rank_and_the_removed_layers() -> None:
    cells = data_of(CHART, "layer", "importance", "removed_at", "is_removed")
    assert cells["importance"].to_list() == LAYERS["importance"].to_list()
    assert cells["removed_at"].to_list() == [rank + 1 for rank in LAYERS["rank"]]
    assert cells["is_removed"].to_list() == [rank < 15 for rank in LAYERS["rank"]]
    assert house_style.title(CHART).startswith("Layer 0 is removed first, layer 17 would be last")


@pytest.mark.parametrize(("lowest", "scale"), [(0.01, "log"), (0.0, "linear"), (-1e-9, "linear")])
def test_importance_has_a_log_scale_if_all_values_are_positive(lowest: float, scale: str) -> None:
    layers = pl.DataFrame({"layer": [0, 1], "importance": [lowest, 0.5], "rank": [0, 1]})
    chart = importance_chart(layers, 1)
    assert spec(chart)["layer"][0]["encoding"]["color"]["scale"]["type"] == scale
    ElementTree.fromstring(formats.svg(house_style.vega_lite(chart)))


def test_experts_have_a_row_for_each_block() -> None:
    layers = pl.DataFrame(
        {
            "layer": range(6),
            "importance": [0.1, 0.5, 0.4, 0.6, 0.2, 0.2],
            "rank": [0, 4, 2, 5, 1, 3],
        }
    )
    run = {"strategy": "expert:use", "layer_count": 3}
    chart = chart_of_importance(layers, run, 1)
    cells = data_of(chart, "block", "expert", "is_removed")
    assert cells.filter("is_removed").rows() == [(0, 0, True), (1, 1, True)]
    assert house_style.title(chart).startswith(
        "1 of 3 experts of each block go; they have 15\N{NO-BREAK SPACE}% of the importance"
    )
    assert spec(chart_of_importance(LAYERS, {"strategy": "cosine"}, 15)) == spec(CHART)
