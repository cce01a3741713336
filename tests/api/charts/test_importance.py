"""The strip of layers with their importance."""

from xml.etree import ElementTree

import polars as pl
import pytest

from prunelake.api.charts import drawing
from prunelake.api.charts.importance import importance_chart
from tests.support.chart_rows import LAYERS, data_of, spec

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
    assert drawing.title(CHART).startswith("Layer 0 is removed first, layer 17 would be last")


@pytest.mark.parametrize(("lowest", "scale"), [(0.01, "log"), (0.0, "linear"), (-1e-9, "linear")])
def test_importance_has_a_log_scale_if_all_values_are_positive(lowest: float, scale: str) -> None:
    layers = pl.DataFrame({"layer": [0, 1], "importance": [lowest, 0.5], "rank": [0, 1]})
    chart = importance_chart(layers, 1)
    assert spec(chart)["layer"][0]["encoding"]["color"]["scale"]["type"] == scale
    ElementTree.fromstring(drawing.svg(drawing.vega_lite(chart)))
