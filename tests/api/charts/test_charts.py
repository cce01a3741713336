"""The charts of one run: valid, as wide as a phone, with titles that state what the data shows."""

import json
from xml.etree import ElementTree

import pytest

from prunelake.api.charts.correlations import correlations_chart
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.importance import importance_chart
from prunelake.api.charts.levels import CONFIDENCE_PANELS, EXPLANATION_PANELS, levels_chart
from prunelake.api.charts.reliability import reliability_chart
from tests.support.api.chart_rows import CORRELATIONS, LAYERS, LEVELS, RELIABILITY, spec

CHARTS: dict[str, Part] = {
    "confidence": levels_chart(LEVELS, CONFIDENCE_PANELS),
    "explanation": levels_chart(LEVELS, EXPLANATION_PANELS),
    "importance": importance_chart(LAYERS, 15),
    "correlations": correlations_chart(CORRELATIONS),
    "reliability": reliability_chart(RELIABILITY, 4),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_valid_and_draws_itself_without_network(name: str) -> None:
    text = json.dumps(spec(CHARTS[name]))
    assert '"url"' not in text
    picture = ElementTree.fromstring(formats.svg(house_style.vega_lite(CHARTS[name])))
    assert picture.tag.endswith("svg")
    # A phone is 360 to 430 px wide; wider charts would shrink their letters there.
    assert 200 < float(picture.attrib["width"]) < 380
    drawn = " ".join(part.strip() for part in picture.itertext() if part.strip())
    for line in spec(CHARTS[name])["title"]["text"]:
        assert line in drawn


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (
            "confidence",
            "Accuracy is stable at level 4; ECE is worse there (band: 95 % interval; n = 80; "
            "dotted: unpruned, upright: level 4; axes need not start at 0)",
        ),
        (
            "explanation",
            "Accuracy is stable at level 4; comprehensiveness is worse there; sufficiency is "
            "not shown to be worse there (band: 95 % interval; n = 80, explained: n = 10; "
            "dotted: unpruned, upright: level 4; axes need not start at 0)",
        ),
        (
            "correlations",
            "Accuracy correlates over 8 levels with ECE (\N{MINUS SIGN}0.80); over 4 stable levels "
            "with no metric for sure (line: 95 % interval; named if it excludes 0; levels are "
            "nested, not independent draws)",
        ),
        (
            # (30 x 0.05 + 10 x 0.05) / 40 and (20 x 0 + 20 x 0.5) / 40
            "reliability",
            "Mean confidence minus accuracy: +0.05 unpruned, +0.25 at level 4 (n = 40; "
            "bar: 95 % interval; dashed: confidence = accuracy)",
        ),
    ],
)
def test_titles_state_the_finding(name: str, title: str) -> None:
    assert house_style.title(CHARTS[name]) == title
