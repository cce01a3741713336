"""The house style of all charts: colours, light and dark, and the title."""

import textwrap
from typing import Any, Literal

import polars as pl

from .vega_lite import SCHEMA, Part, with_named_data

# The palette of Okabe and Ito: readers with common forms of colour blindness can tell its colours
# apart.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#F0E442"
PALE_YELLOW = "#FAF6C8"
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)  # in the order of their use
GREY, INK = "#6B6B6B", "#222222"
FAINT = "#E6E6E6"
ON_COLOUR = "#111111"  # text on a cell in a colour of the palette, in both themes

SEQUENTIAL = ("#F1F6FB", "#4A93CC")
"""Colours from least to most; INK is readable on both."""

DIVERGING = ("#DD7326", "#F4F4F4", "#4A93CC")
"""Colours below, at and above zero; INK is readable on all of them."""

WIDTH = 300  # px; with its axis a chart fits on a phone

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": "sans-serif",
    # As in sentences: 50 % with a no-break space.
    "locale": {
        "number": {
            "decimal": ".",
            "thousands": ",",
            "grouping": [3],
            "currency": ["", ""],
            "percent": "\N{NO-BREAK SPACE}%",
        }
    },
    "view": {"stroke": None},
    "axis": {"gridColor": FAINT, "domainColor": GREY, "tickColor": GREY, "labelColor": INK},
    "axisX": {"titleFontWeight": "normal", "titleColor": INK, "grid": False},
    "axisY": {"titleFontWeight": "normal", "titleColor": INK},
    "legend": {"titleColor": INK, "labelColor": INK, "titleFontWeight": "normal"},
    "title": {"color": INK, "subtitleColor": "#444444", "anchor": "start"},
}

Theme = Literal["light", "dark"]


# The dark theme's colour for each colour of the light theme.
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
    PALE_YELLOW: "#FBF9DD",
    ON_COLOUR: ON_COLOUR,
    SEQUENTIAL[0]: "#20262D",
    SEQUENTIAL[1]: "#266A9E",
    DIVERGING[0]: "#A04E0E",
    DIVERGING[1]: "#2A2B30",
}


def with_house_style(
    chart: Part, title: str, subtitle: list[str], plot_width: float = WIDTH
) -> Part:
    """The chart in the house style, with a title in lines as wide as the chart.

    Above a narrow plot, the title is the widest part. It gets shorter lines and extra room, because
    fonts differ in width.
    """
    text = title[:1].upper() + title[1:]
    is_narrow = plot_width < WIDTH - 40
    heading = {
        "text": textwrap.wrap(text, 36 if is_narrow else 42),
        "subtitle": subtitle,
        "fontSize": 13,
        "subtitleFontSize": 11,
        "offset": 10,
    }
    padding = {"left": 5, "top": 5, "bottom": 5, "right": 30 if is_narrow else 5}
    return chart.properties(title=heading, padding=padding, config=CONFIG)


def title(chart: Part) -> str:
    """The title and the subtitle of a chart on one line."""
    heading = chart["title"]
    return f"{' '.join(heading['text'])} ({' '.join(heading['subtitle'])})"


def vega_lite(chart: Part, theme: Theme = "light") -> dict[str, Any]:
    """The chart as Vega-Lite in the colours of a theme."""
    drawn = {"$schema": SCHEMA} | with_named_data(chart)
    return drawn if theme == "light" else dark_theme(drawn)


def dark_theme(part: Any) -> Any:
    """The Vega-Lite of a light chart, or a part of it, in the colours of the dark theme."""
    if isinstance(part, dict):
        # Data may contain the name of a colour.
        return {k: v if k == "datasets" else dark_theme(v) for k, v in part.items()}
    if isinstance(part, list):
        return [dark_theme(member) for member in part]
    return DARK.get(part, part) if isinstance(part, str) else part


def rule_data(value: float, name: str = "value") -> pl.DataFrame:
    """The data for a rule at one value."""
    return pl.DataFrame({name: [value]})
