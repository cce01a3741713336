"""The parts of the report's HTML: figures, tables and notes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from xml.etree import ElementTree

from ..charts import drawing
from ..charts.vega_lite import Part

MAX_GROWTH = 1.2
"""The factor by which a chart may grow; equal for all charts, so that letters have one size."""

ARIA_ATTRIBUTES = re.compile(r' (?:role|aria-\w+)="[^"]*"')
COLOUR_ATTRIBUTES = re.compile(r'\b(fill|stroke|stop-color)="([^"]*)"')


def figure(chart: Part, caption: str) -> str:
    """A chart in both themes with its caption; screen readers read its caption and title."""
    name = f"{caption} {drawing.title(chart)}"
    spec = drawing.vega_lite(chart)
    picture = merge_themes(drawing.svg(spec), drawing.svg(drawing.dark_theme(spec)))
    # Screen readers skip the parts of a named picture, so names of parts only take space.
    picture = ARIA_ATTRIBUTES.sub("", picture)
    width = float(ElementTree.fromstring(picture).attrib["width"])
    picture = picture.replace(
        "<svg ",
        f'<svg role="img" aria-label="{escape(name)}" '
        f'style="max-width: {MAX_GROWTH * width:.0f}px" ',
        1,
    )
    return (
        f'<figure><div class="card">{picture}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def figures(members: Iterable[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="figures">{"".join(members)}</div>'


def merge_themes(light: str, dark: str) -> str:
    """A drawing with the colours of two themes; the reader's colour scheme chooses one.

    `light` and `dark` are the same drawing in different colours.
    """
    pairs = zip(COLOUR_ATTRIBUTES.findall(light), COLOUR_ATTRIBUTES.findall(dark), strict=True)

    def either(attribute: re.Match[str]) -> str:
        (name, light_colour), (_, dark_colour) = next(pairs)
        # Each drawing numbers its gradients differently.
        if light_colour == dark_colour or light_colour.startswith("url("):
            return attribute[0]
        return f'{name}="light-dark({light_colour}, {dark_colour})"'

    return COLOUR_ATTRIBUTES.sub(either, light)


def with_distinct_ids(sections: str) -> str:
    """Sections with distinct ids, since each drawing numbers its own ids from 0."""
    number_of = count()
    return re.sub(
        r"<svg .*?</svg>",
        lambda svg: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>drawing{next(number_of)}-", svg[0]),
        sections,
        flags=re.DOTALL,
    )


@dataclass(frozen=True)
class TableCell:
    """A cell of a table with a second line, a class and a tooltip."""

    text: str
    below: str = ""
    kind: str = ""
    title: str = ""


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str | TableCell]],
    text_columns: set[int] | None = None,
) -> str:
    """A table whose first column holds the headers of its rows."""
    text = {0} | (text_columns or set())

    def attributes(column: int, cell: TableCell) -> str:
        kinds = " ".join(filter(None, ("text" if column in text else "", cell.kind)))
        text_class = f' class="{kinds}"' if kinds else ""
        return text_class + (f' title="{escape(cell.title)}"' if cell.title else "")

    def markup(column: int, cell: str | TableCell) -> str:
        cell = cell if isinstance(cell, TableCell) else TableCell(cell)
        below = f"<small>{escape(cell.below)}</small>" if cell.below else ""
        tag, scope = ("td", "") if column else ("th", ' scope="row"')
        inner = escape(cell.text) + below
        return f"<{tag}{scope}{attributes(column, cell)}>{inner}</{tag}>"

    head = "".join(
        f'<th scope="col"{attributes(i, TableCell(""))}>{escape(h)}</th>'
        for i, h in enumerate(header)
    )
    body = "".join(
        f"<tr>{''.join(markup(i, cell) for i, cell in enumerate(row))}</tr>" for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def quoted(text: str) -> str:
    """A text of the data in quotation marks, for a sentence."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{escape(text)}\N{RIGHT DOUBLE QUOTATION MARK}"


def note(text: str) -> str:
    """A remark that explains a table or a figure."""
    return f'<p class="soft note">{escape(text)}</p>'


def details(summary: str, content: str) -> str:
    """Content that appears when the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
