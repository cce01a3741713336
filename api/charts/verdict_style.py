"""The colour, shape and words of verdicts, alike in every chart of them."""

from collections.abc import Collection
from dataclasses import dataclass

from ..findings.verdict_labels import VERDICT_LABELS
from .drawing import FAINT, GREEN, ORANGE, SKY, VERMILION, YELLOW


@dataclass(frozen=True)
class VerdictStyle:
    """How a verdict is drawn: the colour of its cell or point, and the shape of the point."""

    colour: str
    shape: str


VERDICT_STYLES = {
    "hidden degradation": VerdictStyle(VERMILION, "diamond"),
    "visible degradation": VerdictStyle(ORANGE, "triangle-down"),
    "worse": VerdictStyle(YELLOW, "square"),
    "equivalent": VerdictStyle(SKY, "circle"),
    "improved": VerdictStyle(GREEN, "triangle-up"),
    "inconclusive": VerdictStyle(FAINT, "cross"),
}


def by_severity(verdicts: Collection[str | None]) -> list[str]:
    """Those that there are, worst first; null is left out."""
    return [verdict for verdict in VERDICT_LABELS if verdict in verdicts]


def legend_label(verdict: str) -> str:
    """A verdict's word and what it means, for a legend; the word once."""
    found = VERDICT_LABELS[verdict]
    has_word = found.meaning.startswith(found.word)
    return found.meaning if has_word else f"{found.word}: {found.meaning}"
