"""The file formats of a chart: Vega-Lite as JSON, an HTML page, and pictures."""

from enum import StrEnum
from typing import Any

from prunelake.schema.row_formats import to_json

from . import pictures, runtime


class ChartFormat(StrEnum):
    """The file formats of a chart."""

    json = "json"
    html = "html"
    svg = "svg"
    png = "png"


def svg(spec: dict[str, Any]) -> str:
    """A Vega-Lite chart as SVG, drawn without a browser or the network."""
    return pictures.svg(to_json(spec))


def png(spec: dict[str, Any], scale: float = 2) -> bytes:
    """A Vega-Lite chart as PNG, with `scale` pixels for each px of the chart."""
    return pictures.png(to_json(spec), scale)


def encode_chart(spec: dict[str, Any], format: ChartFormat) -> bytes:
    """A Vega-Lite chart in a format, drawn in this process."""
    match format:
        case ChartFormat.json:
            return to_json(spec)
        case ChartFormat.html:
            return runtime.html_page(spec).encode()
        case ChartFormat.svg:
            return svg(spec).encode()
        case ChartFormat.png:
            return png(spec)
