"""Parts of a page that shows the lake."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from xml.etree import ElementTree

from ..charts import drawing

MAX_GROWTH = 1.2
"""How far a chart may grow beyond its drawn size; equal for all, so that letters are alike."""

ARIA_ATTRIBUTES = re.compile(r' (?:role|aria-\w+)="[^"]*"')
COLOUR_ATTRIBUTES = re.compile(r'\b(fill|stroke|stop-color)="([^"]*)"')


def figure(chart: drawing.Chart, caption: str) -> str:
    """A chart with its caption, for light and dark paper; read aloud it is caption and title."""
    name = f"{caption} {drawing.title(chart)}"
    spec = drawing.vega_lite(chart)
    picture = merge_themes(drawing.svg(spec), drawing.svg(drawing.dark_theme(spec)))
    # Of a picture that has a name its parts are not read aloud, and their names take room.
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
    """Figures side by side, as many as there is room for."""
    return f'<div class="figures">{"".join(members)}</div>'


def merge_themes(light: str, dark: str) -> str:
    """A drawing in the colours of two alike, of which the reader's colour scheme chooses."""
    pairs = zip(COLOUR_ATTRIBUTES.findall(light), COLOUR_ATTRIBUTES.findall(dark), strict=True)

    def either(attribute: re.Match[str]) -> str:
        (name, of_light), (_, of_dark) = next(pairs)
        # What refers to a gradient is numbered anew in each drawing.
        if of_light == of_dark or of_light.startswith("url("):
            return attribute[0]
        return f'{name}="light-dark({of_light}, {of_dark})"'

    return COLOUR_ATTRIBUTES.sub(either, light)


def with_distinct_ids(sections: str) -> str:
    """Sections whose drawings do not share ids, though each drawing numbers its own from 0."""
    number_of = count()
    return re.sub(
        r"<svg .*?</svg>",
        lambda svg: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>drawing{next(number_of)}-", svg[0]),
        sections,
        flags=re.DOTALL,
    )


@dataclass(frozen=True)
class TableCell:
    """A cell of a table that is more than a text: a second line, a class, what a pointer shows."""

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
    """A table whose first column heads its rows."""
    text = {0} | (text_columns or set())

    def attributes(column: int, cell: TableCell) -> str:
        kinds = " ".join(filter(None, ("text" if column in text else "", cell.kind)))
        found = f' class="{kinds}"' if kinds else ""
        return found + (f' title="{escape(cell.title)}"' if cell.title else "")

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
    """A text of the data inside a sentence."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{escape(text)}\N{RIGHT DOUBLE QUOTATION MARK}"


def note(text: str) -> str:
    """A remark that explains what stands beside it."""
    return f'<p class="soft note">{escape(text)}</p>'


def details(summary: str, content: str) -> str:
    """What is shown when the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
