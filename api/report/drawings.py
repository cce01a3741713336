"""The charts of a report: drawn once each, by several processes, in the colours of both themes."""

import re
from concurrent.futures import Future
from html import escape
from itertools import pairwise

from prunelake.schema.row_formats import to_json

from ..charts.drawing import house_style
from ..charts.drawing.house_style import DARK, DIVERGING, SEQUENTIAL
from ..charts.drawing.pictures import POOL
from ..charts.drawing.vega_lite import Part
from .compact_svg import CompactSvg, drawn

MAX_GROWTH = 1.2
"""The factor by which a chart may grow; equal for all charts, so that letters have one size."""

COLOURS = re.compile(r"\b(fill|stroke|stop-color): ([^;]*)")


class Drawings:
    """The charts of one report; `figure` sends each to a process, `put_into` collects them."""

    def __init__(self) -> None:
        self._drawings: list[Future[CompactSvg]] = []
        self._names: list[str] = []

    def figure(self, chart: Part, caption: str) -> str:
        """A figure with a place for the chart; screen readers read its caption and title."""
        number = len(self._drawings)
        # The name describes the whole drawing, so its parts need no words.
        chart = chart.properties(config=chart["config"] | {"aria": False})
        spec = to_json(house_style.vega_lite(chart))
        self._drawings.append(POOL.submit(drawn, spec, f"d{number}-"))
        self._names.append(f"{caption} {house_style.title(chart)}")
        return (
            f'<figure><div class="card">{_place(number)}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def put_into(self, page: str) -> str:
        """The page with the charts in their places, and with their style sheet in its head."""
        classes: dict[str, str] = {}

        def on_page(place: re.Match[str]) -> str:
            number = int(place[1])
            return svg_tag(self._drawings[number].result(), self._names[number], classes)

        page = re.sub(_place(r"(\d+)"), on_page, page)
        rules = "".join(f".{name} {{{in_both_themes(style)}}}\n" for style, name in classes.items())
        return page.replace("</head>", f"<style>{rules}</style>\n</head>", 1)


def _place(number: int | str) -> str:
    return f"<!--chart {number}-->"


def svg_tag(drawing: CompactSvg, name: str, classes: dict[str, str]) -> str:
    """A drawing with a name for screen readers.

    `classes` has the class of each style, for all drawings of a page; new styles are added.
    """
    width, height = f"{drawing.width:g}", f"{drawing.height:g}"
    names = [classes.setdefault(style, f"s{len(classes)}") for style in drawing.styles]
    content = re.sub(
        r'class="(\d+)"', lambda style: f'class="{names[int(style[1])]}"', drawing.content
    )
    return (
        f'<svg role="img" aria-label="{escape(name)}" '
        f'style="max-width: {MAX_GROWTH * drawing.width:.0f}px" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">{content}</svg>'
    )


def in_both_themes(style: str) -> str:
    """A style of a light drawing in two themes; the reader's colour scheme chooses one."""

    def either(rule: re.Match[str]) -> str:
        name, light = rule[1], rule[2]
        dark = dark_colour(light)
        return rule[0] if dark == light else f"{name}: light-dark({light}, {dark})"

    return COLOURS.sub(either, style)


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
