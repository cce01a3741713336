"""The parts of the report's HTML: figures, tables and notes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from ..findings.wording import isolated


def figures(members: Iterable[str]) -> str:
    """Figures side by side, as many as fit in a row."""
    return f'<div class="figures">{"".join(members)}</div>'


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
        f'<div class="scroll" role="group" tabindex="0" aria-label="{escape(caption)}"><table>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def quoted(text: str) -> str:
    """A text of the data in quotation marks, for a sentence."""
    return f"\N{LEFT DOUBLE QUOTATION MARK}{name(text)}\N{RIGHT DOUBLE QUOTATION MARK}"


def name(text: str) -> str:
    """A name of the data; in a right-to-left script it keeps the words around it in order."""
    return escape(isolated(text))


def note(text: str) -> str:
    """A remark that explains a table or a figure."""
    return f'<p class="soft note">{escape(text)}</p>'


def details(summary: str, content: str) -> str:
    """Content that appears when the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"
