"""How every chart looks, light and dark, and a chart as a picture."""

import textwrap
from typing import Any, Literal, TypeVar

import altair as alt
import polars as pl
import vl_convert

# Okabe and Ito's palette, which stays apart under all common colour blindness.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
GREY, INK = "#6B6B6B", "#222222"
FAINT = "#E6E6E6"
ON_COLOUR = "#111111"  # text on a cell of the palette, whose colours are light enough on any paper

SEQUENTIAL = ("#F1F6FB", "#4A93CC")
"""From least to most; INK is readable on all of them."""

DIVERGING = ("#DD7326", "#F4F4F4", "#4A93CC")
"""From below zero over zero to above it; INK is readable on all of them."""

WIDTH = 300  # px; with its axis a chart is as wide as a phone

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": {"gridColor": FAINT, "domainColor": GREY, "tickColor": GREY, "labelColor": INK},
    "axisX": {"titleFontWeight": "normal", "titleColor": INK, "grid": False},
    "axisY": {"titleFontWeight": "normal", "titleColor": INK},
    "legend": {"titleColor": INK, "labelColor": INK, "titleFontWeight": "normal"},
    "title": {"color": INK, "subtitleColor": "#444444", "anchor": "start"},
}

Chart = alt.Chart | alt.LayerChart | alt.VConcatChart | alt.HConcatChart | alt.FacetChart
AnyChart = TypeVar("AnyChart", bound=Chart)

Theme = Literal["light", "dark"]

# What each colour of the light theme becomes on dark paper, where dark ones would not be seen.
DARK = {
    "white": "#17181B",
    INK: "#ECECEE",
    GREY: "#A0A0A8",
    "#444444": "#B9B9C0",
    FAINT: "#33343A",
    BLUE: "#5CB5EF",
    VERMILION: "#FF8A47",
    GREEN: "#2FC79B",
    PURPLE: "#DDA0C4",
    ORANGE: "#FFBF40",
    SKY: "#7FC8F5",
    YELLOW: "#F5EF9A",
    ON_COLOUR: ON_COLOUR,
    SEQUENTIAL[0]: "#20262D",
    SEQUENTIAL[1]: "#266A9E",
    DIVERGING[0]: "#A04E0E",
    DIVERGING[1]: "#2A2B30",
}


def with_house_style(
    chart: AnyChart, title: str, subtitle: list[str], plot_width: float = WIDTH
) -> AnyChart:
    """The chart in the house style under its title, broken into lines of a chart's width.

    Where that is the widest part, as above a narrow plot, it gets room: fonts differ in width.
    """
    text = title[:1].upper() + title[1:]
    heading = alt.TitleParams(
        text=textwrap.wrap(text, 42),
        subtitle=subtitle,
        fontSize=13,
        subtitleFontSize=11,
        offset=10,
    )
    room = {"left": 5, "top": 5, "bottom": 5, "right": 30 if plot_width < WIDTH - 40 else 5}
    styled: AnyChart = chart.properties(title=heading, padding=room).configure(**CONFIG)
    return styled


def title(chart: Chart) -> str:
    """A finished chart's title and subtitle on one line."""
    heading: Any = chart.title
    return f"{' '.join(heading.text)} ({' '.join(heading.subtitle)})"


def vega_lite(chart: Chart, theme: Theme = "light") -> dict[str, Any]:
    """The chart as Vega-Lite, every colour of the palette in its shade of the theme."""
    drawn: dict[str, Any] = chart.to_dict()
    return drawn if theme == "light" else dark_theme(drawn)


def dark_theme(part: Any) -> Any:
    """A light chart's Vega-Lite, or a part of it, in the colours of the dark theme."""
    if isinstance(part, dict):
        # Data may hold the name of a colour, too.
        return {k: v if k == "datasets" else dark_theme(v) for k, v in part.items()}
    if isinstance(part, list):
        return [dark_theme(member) for member in part]
    return DARK.get(part, part) if isinstance(part, str) else part


def svg(spec: dict[str, Any]) -> str:
    """A Vega-Lite chart as SVG text, drawn without browser or network."""
    text: str = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    return text


def png(spec: dict[str, Any], scale: float = 2) -> bytes:
    """A Vega-Lite chart as PNG, `scale` times as many pixels as its width says."""
    picture: bytes = vl_convert.vegalite_to_png(spec, scale=scale, allowed_base_urls=[])
    return picture


def html_page(spec: dict[str, Any]) -> str:
    """A Vega-Lite chart as an HTML page of its own that needs no network."""
    text: str = vl_convert.vegalite_to_html(spec, bundle=True)
    return text


def rule_data(value: float, name: str = "value") -> pl.DataFrame:
    """The data of a rule at one value."""
    return pl.DataFrame({name: [value]})
