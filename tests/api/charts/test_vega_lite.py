"""The data of a chart in Vega-Lite: each data frame once, with the columns that the chart names."""

import polars as pl

from prunelake.api.charts.drawing.vega_lite import Part, with_named_data

ROWS = pl.DataFrame(
    {
        "level": [0, 1],
        "value": [0.5, float("nan")],
        "verdict": [None, "worse"],
        "shift": [1.0, 2.0],
        "n": [8, 9],
        "note": ["a", "b"],
    },
    schema_overrides={"verdict": pl.Enum(["worse"])},
)


def test_a_chart_carries_each_data_frame_once_with_the_columns_that_it_names() -> None:
    # The text 'n/a' names the column n, too.
    base = Part(data=ROWS).encode(x="level:Q", y="value:Q").filter("datum.verdict != 'n/a'")
    points = base.mark("point", dy={"expr": "datum.shift"})
    rule = Part(data=pl.DataFrame({"other": [1, 2]})).mark("rule")
    spec = with_named_data(Part(layer=[points, base.mark("line"), rule]))
    assert [layer["data"]["name"] for layer in spec["layer"]] == ["data-0", "data-0", "data-1"]
    assert spec["datasets"] == {
        "data-0": [
            {"level": 0, "value": 0.5, "verdict": None, "shift": 1.0, "n": 8},
            {"level": 1, "value": None, "verdict": "worse", "shift": 2.0, "n": 9},
        ],
        # Without a named column, the number of rows still counts.
        "data-1": [{"other": 1}, {"other": 2}],
    }
