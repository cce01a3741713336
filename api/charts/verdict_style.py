"""The colour, shape and words of verdicts, alike in every chart of them."""

from collections.abc import Collection
from dataclasses import dataclass

from api.charts.drawing import FAINT, GREEN, ORANGE, SKY, VERMILION, YELLOW
from api.verdicts import VERDICTS


@dataclass(frozen=True)
class Style:
    """How a verdict is drawn: the colour of its cell or point, and the shape of the point."""

    colour: str
    shape: str


STYLES = {
    "hidden degradation": Style(VERMILION, "diamond"),
    "visible degradation": Style(ORANGE, "triangle-down"),
    "worse": Style(YELLOW, "square"),
    "equivalent": Style(SKY, "circle"),
    "improved": Style(GREEN, "triangle-up"),
    "inconclusive": Style(FAINT, "cross"),
}


def in_order(verdicts: Collection[str | None]) -> list[str]:
    """Those that there are, worst first; null is left out."""
    return [verdict for verdict in VERDICTS if verdict in verdicts]


def told(verdict: str) -> str:
    """A verdict's word and what it means, for a legend; the word once."""
    found = VERDICTS[verdict]
    has_word = found.meaning.startswith(found.word)
    return found.meaning if has_word else f"{found.word}: {found.meaning}"
