"""Drawings on one page: their places, and the colours of both themes."""

import re

import pytest

from prunelake.api.charts.correlation_matrix import matrix_chart
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.importance import importance_chart
from prunelake.api.report.compact_svg import CompactSvg
from prunelake.api.report.drawings import Drawings, dark_colour, in_both_themes, svg_tag
from tests.api.charts.test_correlation_matrix import TWO
from tests.support.api.chart_rows import LAYERS

COLOUR_ATTRIBUTES = re.compile(r'\b(fill|stroke|stop-color)="([^"]*)"')


@pytest.mark.parametrize("chart", [matrix_chart(TWO), importance_chart(LAYERS, 15)])
def test_derived_dark_colours_match_the_dark_chart(chart: Part) -> None:
    light, dark = (formats.svg(house_style.vega_lite(chart, theme)) for theme in ("light", "dark"))
    pairs = zip(COLOUR_ATTRIBUTES.findall(light), COLOUR_ATTRIBUTES.findall(dark), strict=True)
    mixed = 0
    for (_, one), (_, other) in pairs:
        if one.startswith("rgb("):
            mixed += 1
            derived, expected = (
                [int(part) for part in re.findall(r"\d+", colour)]
                for colour in (dark_colour(one), other)
            )
            # A light colour is rounded, so that the share of its range is, too.
            assert derived == pytest.approx(expected, abs=2), (one, other)
        elif not one.startswith("url("):
            assert dark_colour(one) == other
    assert mixed > 3


def test_a_style_has_the_colours_of_both_themes() -> None:
    style = "fill: #222222; fill-opacity: 0.5; stroke: none; stop-color: white"
    assert in_both_themes(style) == (
        "fill: light-dark(#222222, #ECECEE); fill-opacity: 0.5; stroke: none; "
        "stop-color: light-dark(white, #17181B)"
    )


def test_drawings_share_the_classes_of_their_styles() -> None:
    classes = {"fill: red": "s0"}
    mark = '<path class="{}" d="M0,0h1"/>'
    first = CompactSvg(10, 20.5, mark.format(0) + mark.format(1), ["stroke: blue", "fill: red"])
    tag = svg_tag(first, 'A "name"', classes)
    assert mark.format("s1") + mark.format("s0") in tag
    assert 'aria-label="A &quot;name&quot;"' in tag
    assert 'style="max-width: 12px" width="10" height="20.5" viewBox="0 0 10 20.5">' in tag
    second = CompactSvg(1, 1, mark.format(0), ["stroke: blue"])
    assert mark.format("s1") in svg_tag(second, "", classes)
    assert classes == {"fill: red": "s0", "stroke: blue": "s1"}


def test_every_chart_is_put_into_its_place() -> None:
    drawings = Drawings()
    charts = [importance_chart(LAYERS, 15), matrix_chart(TWO)]
    page = "".join(drawings.figure(chart, f"Caption {i}.") for i, chart in enumerate(charts))
    page = drawings.put_into(f"<head></head>{page}")
    assert "fill: light-dark(#222222, #ECECEE)" in page.partition("</head>")[0]
    figures = page.split("</figure>")
    for i, chart in enumerate(charts):
        assert f'aria-label="Caption {i}. {house_style.title(chart)[:20]}' in figures[i]
        assert chart["title"]["text"][0] in figures[i]
