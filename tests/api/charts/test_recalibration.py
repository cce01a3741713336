"""The chart of recalibration: its numbers come from the view, and its title describes them."""

from typing import Any

import polars as pl
import pytest

from prunelake.api.charts.drawing import house_style
from prunelake.api.charts.recalibration import recalibration_chart
from prunelake.schema.calibrators import CALIBRATOR_NAMES
from tests.support.api.chart_rows import spec

SCHEMA = {
    "level": pl.Int32(),
    "calibrator": pl.String(),
    **{
        name: pl.Float64()
        for name in ("before", "before_low", "before_high", "value", "ci_low", "ci_high")
    },
    "unpruned_value": pl.Float64(),
    "n": pl.Int64(),
    "note": pl.String(),
}


def given(*names: str) -> pl.DataFrame:
    """Before: 0.1, plus a tenth for each level. After: 0.01 times the place of the calibrator."""
    rows = [
        {
            "level": level,
            "calibrator": name,
            "before": 0.1 + 0.1 * level,
            "before_low": 0.05 + 0.1 * level,
            "before_high": 0.15 + 0.1 * level,
            "value": 0.01 * place if name in names else None,
            "ci_low": 0.0 if name in names else None,
            "ci_high": 0.1 if name in names else None,
            "unpruned_value": 0.1,
            "n": 80,
            "note": None if name in names else "not defined",
        }
        for place, name in enumerate(CALIBRATOR_NAMES, start=1)
        for level in (0, 1, 4)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def values(panel: dict[str, Any], drawn: dict[str, Any], field: str) -> list[float]:
    layer = next(
        part
        for part in panel["layer"]
        if part["encoding"]["y"]["field"] == field and "x" in part["encoding"]
    )
    return [row[field] for row in drawn["datasets"][layer["data"]["name"]]]


def test_every_calibrator_has_a_panel_with_before_and_after() -> None:
    drawn = spec(recalibration_chart(given(*CALIBRATOR_NAMES), "ece", 1))
    assert [panel["title"]["text"] for panel in drawn["vconcat"]] == [
        name.replace("_", " ") for name in CALIBRATOR_NAMES
    ]
    for place, panel in enumerate(drawn["vconcat"], start=1):
        assert values(panel, drawn, "before") == pytest.approx([0.1, 0.2, 0.5])
        assert values(panel, drawn, "value") == pytest.approx([0.01 * place] * 3)
        domains = [
            part["encoding"]["y"]["scale"]["domain"]
            for part in panel["layer"]
            if "scale" in part["encoding"]["y"]
        ]
        assert domains == [pytest.approx([0.0, 0.55])] * 6


def test_a_metric_that_a_calibrator_does_not_define_is_left_out() -> None:
    rows = given("temperature", "unpruned_temperature")
    drawn = spec(recalibration_chart(rows, "nll", 1))
    assert [panel["title"]["text"] for panel in drawn["vconcat"]] == [
        "temperature",
        "unpruned temperature",
    ]


@pytest.mark.parametrize(
    ("level", "names", "title"),
    [
        (
            1,
            CALIBRATOR_NAMES,
            "ECE at level 1 is 0.200, and 0.010 at its own temperature, 0.060 at the unpruned "
            "model's",
        ),
        (
            0,
            CALIBRATOR_NAMES,
            "ECE of the unpruned model is 0.100, and 0.010 at its own temperature",
        ),
        (3, ("beta",), "ECE at level 4 is 0.500"),  # the deepest, where that level lacks
    ],
)
def test_the_title_has_the_metric_before_and_after_recalibration(
    level: int, names: tuple[str, ...], title: str
) -> None:
    chart = recalibration_chart(given(*names), "ece", level)
    assert house_style.title(chart).partition(" (")[0] == title
    assert "n = 80" in house_style.title(chart)
