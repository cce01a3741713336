"""The colour, shape and words of verdicts, the same in every chart."""

from collections.abc import Collection
from dataclasses import dataclass

from ..findings.verdict_labels import VERDICT_LABELS
from .drawing import FAINT, GREEN, ORANGE, SKY, VERMILION, YELLOW


@dataclass(frozen=True)
class VerdictStyle:
    """The colour of a verdict's cell or point, and the shape of its point."""

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
    """The distinct verdicts, worst first, without null."""
    return [verdict for verdict in VERDICT_LABELS if verdict in verdicts]


def legend_label(verdict: str) -> str:
    """The word and the meaning of a verdict, for a legend."""
    verdict_label = VERDICT_LABELS[verdict]
    has_word = verdict_label.meaning.startswith(verdict_label.word)
    return verdict_label.meaning if has_word else f"{verdict_label.word}: {verdict_label.meaning}"
