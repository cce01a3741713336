"""How every chart looks, and a chart as SVG."""

import textwrap
from typing import Any, TypeVar

import altair as alt
import vl_convert

# Okabe and Ito's palette, which stays apart under all common colour blindness.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY, INK = "#6B6B6B", "#222222"

WIDTH = 300  # px; with its axis a chart is as wide as a phone

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {"gridColor": "#E6E6E6", "domainColor": GREY, "tickColor": GREY, "labelColor": INK},
    "axisX": {"titleFontWeight": "normal", "titleColor": INK, "grid": False},
    "axisY": {"titleFontWeight": "normal", "titleColor": INK},
    "legend": {"titleColor": INK, "labelColor": INK, "titleFontWeight": "normal"},
    "title": {"color": INK, "subtitleColor": "#444444", "anchor": "start"},
}

Chart = alt.LayerChart | alt.VConcatChart
AnyChart = TypeVar("AnyChart", alt.LayerChart, alt.VConcatChart)


def finished(chart: AnyChart, title: str, subtitle: list[str]) -> AnyChart:
    """The chart in the house style under its title, broken into lines of a chart's width."""
    text = title[:1].upper() + title[1:]
    heading = alt.TitleParams(
        text=textwrap.wrap(text, 42),
        subtitle=subtitle,
        fontSize=13,
        subtitleFontSize=11,
        offset=10,
    )
    styled: AnyChart = chart.properties(title=heading).configure(**CONFIG)
    return styled


def title(chart: Chart) -> str:
    """A finished chart's title and subtitle on one line."""
    heading: Any = chart.title
    return f"{' '.join(heading.text)} ({' '.join(heading.subtitle)})"


def svg(chart: Chart) -> str:
    """The chart as SVG text, drawn without browser or network."""
    text: str = vl_convert.vegalite_to_svg(chart.to_dict(), allowed_base_urls=[])
    return text
