"""Accuracy against confidence."""

from xml.etree import ElementTree

import polars as pl
import pytest
from scipy.stats import binomtest

from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.reliability import reliability_chart
from tests.support.api.chart_rows import RELIABILITY, data_of


@pytest.mark.parametrize(
    ("level", "models"),
    [(4, ["unpruned", "level 4"]), (8, ["unpruned", "level 8"]), (0, ["unpruned"])],
)
def test_reliability_compares_a_level_with_the_unpruned_model(
    level: int, models: list[str]
) -> None:
    chart = reliability_chart(RELIABILITY, level)
    columns = ("mean_confidence", "accuracy", "n")
    shown = data_of(chart, *columns)
    given = RELIABILITY.filter(pl.col("level").is_in([0, level])).select(columns)
    assert shown.rows() == given.rows()
    assert data_of(chart, "model", "n")["model"].unique(maintain_order=True).to_list() == models
    picture = ElementTree.fromstring(formats.svg(house_style.vega_lite(chart)))
    points = picture.findall(".//*[@aria-roledescription='point']")
    assert len(points) == given.height


def test_a_bin_has_the_interval_of_wilson() -> None:
    drawn = data_of(reliability_chart(RELIABILITY, 4), "n", "accuracy", "accuracy_low")
    rows = data_of(reliability_chart(RELIABILITY, 4), "accuracy_low", "accuracy_high").rows()
    for (n, share, _), (low, high) in zip(drawn.rows(), rows, strict=True):
        interval = binomtest(round(n * share), n).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((interval.low, interval.high))
