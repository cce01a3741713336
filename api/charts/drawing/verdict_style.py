"""The colour, shape and words of verdicts, for all charts."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from prunelake.schema.verdicts import Verdict

from ...findings.level_names import REMOVALS, LevelNames
from ...findings.verdict_labels import VERDICT_LABELS
from .house_style import FAINT, GREEN, ORANGE, PALE_YELLOW, SKY, VERMILION, YELLOW


@dataclass(frozen=True)
class VerdictStyle:
    """The colour of a verdict's cell or point, and the shape of its point."""

    colour: str
    shape: str


VERDICT_STYLES: Mapping[str, VerdictStyle] = {
    Verdict.hidden_degradation: VerdictStyle(VERMILION, "diamond"),
    Verdict.visible_degradation: VerdictStyle(ORANGE, "triangle-down"),
    Verdict.worse: VerdictStyle(YELLOW, "square"),
    Verdict.worse_within_margin: VerdictStyle(PALE_YELLOW, "triangle-right"),
    Verdict.equivalent: VerdictStyle(SKY, "circle"),
    Verdict.improved: VerdictStyle(GREEN, "triangle-up"),
    Verdict.inconclusive: VerdictStyle(FAINT, "cross"),
}


def by_severity(verdicts: Collection[str | None]) -> list[str]:
    """The distinct verdicts, worst first, without null."""
    return [verdict for verdict in VERDICT_LABELS if verdict in verdicts]


def legend_label(verdict: str, names: LevelNames = REMOVALS) -> str:
    """The word and the meaning of a verdict, for a legend."""
    word = VERDICT_LABELS[verdict].word
    meaning = names.in_baseline_words(VERDICT_LABELS[verdict].meaning)
    return meaning if meaning.startswith(word) else f"{word}: {meaning}"
