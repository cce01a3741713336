"""Drawings on one page: distinct ids, both themes, and less text."""

import re
from xml.etree import ElementTree

import pytest

from prunelake.api.charts.correlation_matrix import matrix_chart
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.importance import importance_chart
from prunelake.api.report.drawings import (
    COLOUR_ATTRIBUTES,
    Drawings,
    dark_colour,
    smaller,
    with_classes,
    with_own_ids,
)
from tests.api.charts.test_correlation_matrix import TWO
from tests.support.api.chart_rows import LAYERS


def test_the_ids_of_a_drawing_do_not_depend_on_earlier_drawings() -> None:
    svg = '<a id="a_{0}"/><b fill="url(#a_{0})"/>\n<c xlink:href="#a_{0}"/><d id="b_{0}"/>'
    expected = svg.replace("a_{0}", "d1-0").replace("b_{0}", "d1-1")
    assert with_own_ids(svg.format(0), "d1-") == with_own_ids(svg.format(7), "d1-") == expected


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


def test_a_smaller_drawing_has_the_same_marks_and_texts() -> None:
    svg = formats.svg(house_style.vega_lite(importance_chart(LAYERS, 15)))
    small = smaller(svg)
    assert len(small) < 0.7 * len(svg)
    first, second = (list(ElementTree.fromstring(text).itertext()) for text in (small, svg))
    assert first == second
    assert small.count("fill=") == svg.count("fill=")


def test_classes_keep_the_style_of_each_mark() -> None:
    styles: dict[str, str] = {}
    for chart in (importance_chart(LAYERS, 15), matrix_chart(TWO)):
        svg = smaller(formats.svg(house_style.vega_lite(chart)))
        classed = with_classes(svg, styles)
        assert len(classed) < 0.9 * len(svg)
        style_of = {name: style for style, name in styles.items()}
        trees = ElementTree.fromstring(classed), ElementTree.fromstring(svg)
        for marked, mark in zip(*(tree.iter() for tree in trees), strict=True):
            style = style_of.get(marked.attrib.pop("class", ""), "")
            rules = dict(rule.split(": ") for rule in style.split("; ") if rule)
            assert marked.attrib | rules == mark.attrib
    assert len(set(styles.values())) == len(styles) < 60


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
