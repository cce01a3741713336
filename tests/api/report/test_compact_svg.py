"""Drawings in less text: the same picture, the same texts, and ids of their own."""

import io
import re
from xml.etree import ElementTree

import pytest
import vl_convert
from PIL import Image, ImageChops

from prunelake.api.charts.accuracy_path import path_chart
from prunelake.api.charts.correlation_matrix import matrix_chart
from prunelake.api.charts.drawing import formats, house_style
from prunelake.api.charts.drawing.vega_lite import Part
from prunelake.api.charts.importance import importance_chart
from prunelake.api.charts.levels import CONFIDENCE_PANELS, levels_chart
from prunelake.api.report.compact_svg import CompactSvg, compact
from tests.api.charts.test_accuracy_path import FALLING
from tests.api.charts.test_correlation_matrix import TWO
from tests.support.api.chart_rows import LAYERS, LEVELS

SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" {}>{}</svg>'


def compacted(content: str) -> CompactSvg:
    return compact(SVG.format('width="40" height="30"', content), "d1-")


def as_svg(drawing: CompactSvg) -> str:
    """The drawing with its styles as a style sheet."""
    rules = "".join(f".s{number} {{{style}}}" for number, style in enumerate(drawing.styles))
    content = re.sub(r'class="(\d+)"', r'class="s\1"', drawing.content)
    style = f"<style>text {{font-family: sans-serif}} {rules}</style>"
    return SVG.format(f'width="{drawing.width}" height="{drawing.height}"', style + content)


def changed_pixels(svg: str, other: str, by: int) -> int:
    """The pixels whose lightness differs by at least `by` of 255."""
    pictures = [
        Image.open(io.BytesIO(vl_convert.svg_to_png(text, scale=2))).convert("RGB")
        for text in (svg, other)
    ]
    assert pictures[0].size == pictures[1].size
    return sum(ImageChops.difference(*pictures).convert("L").histogram()[by:])


@pytest.mark.parametrize(
    "chart",
    [
        importance_chart(LAYERS, 15),
        matrix_chart(TWO),
        path_chart(FALLING, "ece", 1),
        levels_chart(LEVELS, CONFIDENCE_PANELS),
    ],
    ids=["importance", "matrix", "path", "levels"],
)
def test_a_chart_keeps_its_picture_and_its_texts_in_half_the_text(chart: Part) -> None:
    svg = formats.svg(house_style.vega_lite(chart))
    drawing = compact(svg, "d1-")
    assert len(drawing.content) < 0.4 * len(svg)
    texts = ElementTree.fromstring(SVG.format("", drawing.content)).itertext()
    assert [*texts] == [*ElementTree.fromstring(svg).itertext()]
    small = as_svg(drawing)
    # Coordinates are rounded: the edges of some lines become a little lighter or darker.
    area = drawing.width * drawing.height
    assert changed_pixels(svg, small, by=64) <= 20
    assert changed_pixels(svg, small, by=20) <= 0.004 * area


def test_neighbours_of_one_style_become_one_element() -> None:
    line = '<line transform="translate({},5.126)" x2="0" y2="-8" stroke="{}"/>'
    cell = '<path d="M{},1h2.5v3.004h-2.5Z" fill="red"/>'
    text = '<text transform="translate({},9)" fill="red">{}</text>'
    drawing = compacted(
        line.format(1, "blue") + line.format(2, "blue") + line.format(3, "green")
        + cell.format(4) + cell.format(7) + text.format(4, "a") + text.format(7.5, "&lt;b&gt;")
    )  # fmt: skip
    assert drawing.styles == ["stroke: blue", "stroke: green", "fill: red"]
    assert drawing.content == (
        '<path class="0" d="M1,5.13v-8M2,5.13v-8"/><path class="1" d="M3,5.13v-8"/>'
        '<g class="2"><path d="M4,1h2.5v3h-2.5ZM7,1h2.5v3h-2.5Z"/>'
        '<text x="4" y="9">a</text><text x="7.5" y="9">&lt;b&gt;</text></g>'
    )


@pytest.mark.parametrize("transparent", ["opacity", "stroke-opacity"])
def test_transparent_neighbours_are_drawn_one_by_one(transparent: str) -> None:
    line = f'<line transform="translate(1,5)" x2="9" y2="3" stroke="blue" {transparent}="0.5"/>'
    drawing = compacted(2 * line)
    assert drawing.content.count('d="M1,5l9,3"') == 2
    # The opacity of a group is not that of its members.
    assert drawing.content.count("<g ") == (transparent == "stroke-opacity")
    assert not changed_pixels(SVG.format('width="40" height="30"', 2 * line), as_svg(drawing), 1)


def test_only_groups_with_a_reason_stay() -> None:
    drawing = compacted(
        '<g fill="none" stroke-miterlimit="10" transform="translate(5,5)"><g class="mark" role="x">'
        '<path class="background" aria-hidden="true" d="M0,0h9v9h-9Z"/><g>'
        '<path d="M2,0A2,2,0,1,1,-2,0A2,2,0,1,1,2,0" transform="translate(3,4.5)" fill="red"/></g>'
        '<g transform="translate(1,1)"></g></g></g>'
    )
    assert drawing.styles == ["fill: none", "fill: red"]
    assert drawing.content == (
        '<g class="0" transform="translate(5,5)"><circle class="1" cx="3" cy="4.5" r="2"/></g>'
    )


def test_the_ids_of_a_drawing_do_not_depend_on_earlier_drawings() -> None:
    content = (
        '<linearGradient id="a_{0}"><stop offset="0" stop-color="red"/></linearGradient>'
        '<rect width="9" height="9" fill="url(#a_{0})"/><use x:href="#b_{0}"/><g id="b_{0}"/>'
    )
    first, second = (compacted(content.format(number)) for number in (0, 7))
    assert first == second
    assert re.findall(r'(?:id="|#)([^")]+)', first.content) == ["d1-0", "d1-0", "d1-1"]
    assert first.styles == ["stop-color: red"]
