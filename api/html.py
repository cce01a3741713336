"""Parts of a page that shows the lake."""

import re
from collections.abc import Sequence
from html import escape
from itertools import count
from xml.etree import ElementTree

from api import drawing

GROWTH = 1.2
"""How far a chart may grow beyond its drawn size; equal for all, so that letters are alike."""


def figure(chart: drawing.Chart, caption: str) -> str:
    """A chart with its caption; read aloud it is caption and title."""
    name = f"{caption} {drawing.title(chart)}"
    picture = drawing.svg(chart)
    width = float(ElementTree.fromstring(picture).attrib["width"])
    picture = picture.replace(
        "<svg ",
        f'<svg role="img" aria-label="{escape(name)}" style="max-width: {GROWTH * width:.0f}px" ',
        1,
    )
    return (
        f'<figure><div class="card">{picture}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def with_distinct_ids(sections: str) -> str:
    """Sections whose drawings do not share ids, though each drawing numbers its own from 0."""
    number_of = count()
    return re.sub(
        r"<svg .*?</svg>",
        lambda svg: re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>drawing{next(number_of)}-", svg[0]),
        sections,
        flags=re.DOTALL,
    )


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    text_columns: set[int] | None = None,
    shaded: int = -1,
) -> str:
    """A table whose first column heads its rows; `shaded` marks rows up to this level."""
    text = {0} | (text_columns or set())

    def css(column: int) -> str:
        return ' class="text"' if column in text else ""

    head = "".join(f'<th scope="col"{css(i)}>{escape(h)}</th>' for i, h in enumerate(header))
    body = ""
    for row in rows:
        cells = "".join(f"<td{css(i)}>{escape(c)}</td>" for i, c in enumerate(row) if i)
        mark = ' class="held"' if shaded >= 0 and int(row[0]) <= shaded else ""
        body += f'<tr{mark}><th scope="row">{escape(row[0])}</th>{cells}</tr>'
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
