"""Charts as SVG in less text, with the same picture.

Groups need a reason, a hundredth of a px is enough, and neighbours with equal styles share them.
Tags name their style by its number, so that all charts of a page can share a style sheet. The
processes that draw charts run this module, so it loads nothing else of the report.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import NamedTuple
from xml.etree.ElementTree import Element, fromstring

from ..charts.drawing import pictures

STYLES = {
    *("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray"),
    *("opacity", "text-anchor", "font-size", "font-weight", "font-style", "stop-color"),
}
"""Attributes that a style sheet may set as well."""

# Screen readers skip the parts of a named picture, and the report styles its text.
SPARE = {"role", "class", "pointer-events", "font-family", "stroke-miterlimit"}
DEFAULTS = {("opacity", "1"), ("stroke-width", "1"), ("transform", "translate(0,0)")}
GEOMETRY = {"d", "transform", "x", "y", "x1", "y1", "x2", "y2", "width", "height"}

DECIMALS = re.compile(r"-?\d+\.\d+")
PLACE = re.compile(r"translate\((-?[\d.]+),(-?[\d.]+)\)")
RECTANGLE = re.compile(r"M[^a-zA-Z]+h[^a-zA-Z]+v[^a-zA-Z]+h[^a-zA-Z]+Z")
CIRCLE = re.compile(r"M([\d.]+),0A\1,\1,0,1,1,-\1,0A\1,\1,0,1,1,\1,0")


@dataclass(frozen=True)
class CompactSvg:
    """The content of a drawing's svg tag, in which `class="3"` stands for `styles[3]`; in px."""

    width: float
    height: float
    content: str
    styles: list[str]


class Mark(NamedTuple):
    """An element: the number of its style, its tag, other attributes and content.

    A path that may be one with its neighbours has its `d` in `path`.
    """

    style: int | None
    tag: str
    attributes: str = ""
    content: str = ""
    path: str = ""

    def markup(self, style: int | None) -> str:
        """The mark with this style; None if a group around it has the style."""
        name = "" if style is None else f' class="{style}"'
        path = f' d="{self.path}"' if self.path else ""
        end = f">{self.content}</{self.tag}>" if self.content else "/>"
        return f"<{self.tag}{name}{self.attributes}{path}{end}"


def drawn(spec: bytes, prefix: str) -> CompactSvg:
    """A Vega-Lite chart; its ids begin with `prefix`."""
    return compact(pictures.svg(spec), prefix)


def compact(svg: str, prefix: str) -> CompactSvg:
    """The same picture; its ids begin with `prefix`: drawings of several processes share ids."""
    root = fromstring(svg)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    writer = _Writer(prefix)
    return CompactSvg(width, height, writer.content(root), [*writer.styles])


class _Writer:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.ids: dict[str, int] = {}
        self.styles: dict[str, int] = {}

    def content(self, parent: Element) -> str:
        """The members of an element; neighbours share a style, if it is inherited."""
        marks = [mark for member in parent for mark in self.marks(member)]
        styles = [*self.styles]
        texts = []
        for number, group in groupby(marks, key=lambda mark: mark.style):
            style = "" if number is None else styles[number]
            members = [*group]
            if "opacity" not in style:
                members = [*_joined(members)]
            is_inherited = style and not re.search(r"(?<!-)opacity|stop-color", style)
            if is_inherited and len(members) > 1:
                texts.append(f'<g class="{number}">')
                texts += [mark.markup(None) for mark in members]
                texts.append("</g>")
            else:
                texts += [mark.markup(number) for mark in members]
        return "".join(texts)

    def marks(self, element: Element) -> Iterator[Mark]:
        """The element, if it is visible; the members of a group that changes nothing."""
        tag = element.tag.rpartition("}")[2]
        given, styles = {}, []
        for name, value in element.attrib.items():
            if name in SPARE or name.startswith("aria") or (name, value) in DEFAULTS:
                continue
            if name in STYLES and "url(" not in value:
                styles.append(f"{name}: {value}")
            else:
                given[name.rpartition("}")[2]] = value
        style = self.styles.setdefault("; ".join(styles), len(self.styles)) if styles else None
        place = PLACE.fullmatch(given.get("transform", "translate(0,0)"))
        x, y = (_rounded(place[1]), _rounded(place[2])) if place else ("", "")
        others = given.keys() - {"transform"}
        match tag:
            case "g" if not given and style is None:
                for member in element:
                    yield from self.marks(member)
            case "g":
                if content := self.content(element):
                    yield Mark(style, tag, self.attributes(given), content)
            case "path" if style is None and element.get("class") in ("background", "foreground"):
                pass
            case "path" if place and others == {"d"} and (circle := CIRCLE.fullmatch(given["d"])):
                yield Mark(style, "circle", f' cx="{x}" cy="{y}" r="{_rounded(circle[1])}"')
            case "path" if given.keys() == {"d"} and RECTANGLE.fullmatch(given["d"]):
                yield Mark(style, tag, path=_rounded(given["d"]))
            case "line" if place and others <= {"x2", "y2"}:
                across, down = given.get("x2", "0"), given.get("y2", "0")
                end = f"h{across}" if down == "0" else f"v{down}" if across == "0" else None
                path = _rounded(f"M{x},{y}{end or f'l{across},{down}'}")
                yield Mark(style, "path", path=path)
            case "text" if place and not others and not len(element):
                yield Mark(style, tag, f' x="{x}" y="{y}"', escape(element.text or ""))
            case _:
                content = escape(element.text or "") + self.content(element)
                yield Mark(style, tag, self.attributes(given), content)

    def attributes(self, given: dict[str, str]) -> str:
        return "".join(f' {name}="{self.value(name, given[name])}"' for name in given)

    def value(self, name: str, value: str) -> str:
        if name == "id":
            return self.own_id(value)
        if name == "href":
            return f"#{self.own_id(value.removeprefix('#'))}"
        value = re.sub(r"(?<=url\(#)[^)]+", lambda id: self.own_id(id[0]), value)
        return escape(_rounded(value) if name in GEOMETRY else value)

    def own_id(self, id: str) -> str:
        return f"{self.prefix}{self.ids.setdefault(id, len(self.ids))}"


def _joined(marks: Sequence[Mark]) -> Iterator[Mark]:
    """Marks of one opaque style; neighbouring paths become one path."""
    for is_path, group in groupby(marks, key=lambda mark: bool(mark.path)):
        if is_path:
            members = [*group]
            yield members[0]._replace(path="".join(mark.path for mark in members))
        else:
            yield from group


def _rounded(text: str) -> str:
    """Numbers with two decimals, or fewer if these are zero."""

    def shorter(number: re.Match[str]) -> str:
        short = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
        return "0" if short == "-0" else short

    return DECIMALS.sub(shorter, text)
