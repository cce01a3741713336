"""The charts of a report: drawn once each, by several processes, in the colours of both themes."""

import re
from concurrent.futures import Future
from html import escape
from itertools import pairwise
from xml.etree import ElementTree

from prunelake.schema.row_formats import to_json

from ..charts.drawing import house_style
from ..charts.drawing.house_style import DARK, DIVERGING, SEQUENTIAL
from ..charts.drawing.pictures import POOL
from ..charts.drawing.vega_lite import Part

MAX_GROWTH = 1.2
"""The factor by which a chart may grow; equal for all charts, so that letters have one size."""

COLOUR_ATTRIBUTES = re.compile(r'\b(fill|stroke|stop-color)="([^"]*)"')

# Screen readers skip the parts of a named picture, and the report styles its text.
SPARE_ATTRIBUTES = re.compile(
    r' (?:role|aria-\w+|class|pointer-events|font-family|stroke-miterlimit)="[^"]*"'
    r'| (?:opacity|stroke-width)="1"| xmlns:xlink="[^"]*"| version="[^"]*"'
    r'| transform="translate\(0,0\)"| [xy]2="0"'
)
INVISIBLE_PATHS = re.compile(r'<path class="(?:back|fore)ground"(?![^>]*(?:fill|stroke)=)[^>]*/>')
TAGS = re.compile(r"<[^>]+>")
LONG_NUMBERS = re.compile(r"-?\d+\.\d{3,}")
GROUP = re.compile(r"<g[ >](?!.*/>)|</g>")

# Attributes that a style sheet may set as well.
STYLE_ATTRIBUTES = re.compile(
    r" (fill|fill-opacity|stroke|stroke-width|stroke-opacity|stroke-dasharray|opacity|text-anchor|"
    r'font-size|font-weight|font-style)="([^"]*)"'
)


class Drawings:
    """The charts of one report; `figure` sends each to a process, `put_into` collects them."""

    def __init__(self) -> None:
        self._pictures: list[Future[bytes]] = []
        self._names: list[str] = []

    def figure(self, chart: Part, caption: str) -> str:
        """A figure with a place for the chart; screen readers read its caption and title."""
        spec = to_json(house_style.vega_lite(chart))
        self._pictures.append(POOL.submit(spec, "svg"))
        self._names.append(f"{caption} {house_style.title(chart)}")
        place = _place(len(self._pictures) - 1)
        return (
            f'<figure><div class="card">{place}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def put_into(self, page: str) -> str:
        """The page with the charts in their places, and with their style sheet in its head."""
        styles: dict[str, str] = {}

        def drawn(place: re.Match[str]) -> str:
            number = int(place[1])
            svg = self._pictures[number].result().decode()
            return with_classes(_on_page(svg, self._names[number], f"d{number}-"), styles)

        page = re.sub(_place(r"(\d+)"), drawn, page)
        rules = "".join(f".{name} {{{style}}}\n" for style, name in styles.items())
        return page.replace("</head>", f"<style>{rules}</style>\n</head>", 1)


def _place(number: int | str) -> str:
    return f"<!--chart {number}-->"


def _on_page(svg: str, name: str, prefix: str) -> str:
    """A drawing with a name, in both themes, with ids that no other drawing has."""
    width = float(ElementTree.fromstring(svg).attrib["width"])
    svg = with_own_ids(in_both_themes(smaller(svg)), prefix)
    return svg.replace(
        "<svg ",
        f'<svg role="img" aria-label="{escape(name)}" '
        f'style="max-width: {MAX_GROWTH * width:.0f}px" ',
        1,
    )


def smaller(svg: str) -> str:
    """The same picture in less text: a hundredth of a px is enough, and groups need a reason."""
    is_kept: list[bool] = []

    def shorter(tag: re.Match[str]) -> str:
        text = SPARE_ATTRIBUTES.sub("", tag[0])
        if GROUP.match(text):
            if text != "</g>":
                is_kept.append(text != "<g>")
                return _rounded(text) if is_kept[-1] else ""
            return text if is_kept.pop() else ""
        return _rounded(text)

    return TAGS.sub(shorter, INVISIBLE_PATHS.sub("", svg))


def _rounded(tag: str) -> str:
    return LONG_NUMBERS.sub(lambda number: f"{float(number[0]):.2f}", tag)


def with_classes(svg: str, styles: dict[str, str]) -> str:
    """A drawing whose tags name a class for their style: many tags share one.

    `styles` has the class of each style, for all drawings of a page; new styles are added.
    """

    def named(tag: re.Match[str]) -> str:
        style = "; ".join(f"{name}: {value}" for name, value in STYLE_ATTRIBUTES.findall(tag[0]))
        if not style:
            return tag[0]
        name = styles.setdefault(style, f"s{len(styles)}")
        return re.sub(r"^<\w+", rf'\g<0> class="{name}"', STYLE_ATTRIBUTES.sub("", tag[0]))

    return TAGS.sub(named, svg)


def with_own_ids(svg: str, prefix: str) -> str:
    """A drawing with the ids `prefix` and a number: drawings of several processes share ids."""
    numbers: dict[str, int] = {}

    def own(reference: re.Match[str]) -> str:
        return f"{reference[1]}{prefix}{numbers.setdefault(reference[2], len(numbers))}"

    return re.sub(r'(\bid="|url\(#|href="#)([^")]+)', own, svg)


def in_both_themes(svg: str) -> str:
    """A light drawing with the colours of two themes; the reader's colour scheme chooses one."""

    def either(attribute: re.Match[str]) -> str:
        name, light = attribute[1], attribute[2]
        dark = dark_colour(light)
        return attribute[0] if dark == light else f'{name}="light-dark({light}, {dark})"'

    return COLOUR_ATTRIBUTES.sub(either, svg)


def dark_colour(light: str) -> str:
    """The dark theme's colour for a colour of a light drawing, or for a mixture in a range."""
    if light in DARK:
        return DARK[light]
    numbers = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", light)
    if numbers is None:
        return light
    mixed = [float(part) for part in numbers.groups()]
    for colours in (SEQUENTIAL, DIVERGING):
        for low, high in pairwise(colours):
            start, end = _rgb(low), _rgb(high)
            share = _share(mixed, start, end)
            if max(abs(a - b) for a, b in zip(mixed, _mix(start, end, share), strict=True)) < 1:
                parts = _mix(_rgb(DARK[low]), _rgb(DARK[high]), share)
                return f"rgb({', '.join(str(round(part)) for part in parts)})"
    return light


def _rgb(colour: str) -> list[float]:
    return [float(part) for part in bytes.fromhex(colour[1:])]


def _mix(start: list[float], end: list[float], share: float) -> list[float]:
    return [a + share * (b - a) for a, b in zip(start, end, strict=True)]


def _share(mixed: list[float], start: list[float], end: list[float]) -> float:
    """The share of `end` in a mixture of both, from 0 to 1."""
    span = [b - a for a, b in zip(start, end, strict=True)]
    along = sum((m - a) * s for m, a, s in zip(mixed, start, span, strict=True))
    return min(1.0, max(0.0, along / sum(s * s for s in span)))
