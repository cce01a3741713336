"""The titles of axes over levels."""

import pytest

from prunelake.api.charts.drawing.axis_titles import count_parts
from prunelake.api.charts.levels import levels_chart
from tests.support.api.chart_rows import LEVELS, spec


@pytest.mark.parametrize(
    ("strategy", "title"),
    [
        ("cosine", "removed layers (0 = unpruned)"),
        ("mlp:cosine", "removed layers (0 = unpruned)"),
        ("expert:use", "removed experts of each block (0 = unpruned)"),
    ],
)
def test_the_axis_of_levels_names_the_counted_parts(strategy: str, title: str) -> None:
    chart = levels_chart(LEVELS, ["accuracy", "ece"])
    count_parts(chart, strategy)
    text = str(spec(chart))
    assert f"'title': '{title}'" in text
    assert text.count("(0 = unpruned)") == text.count(title)
