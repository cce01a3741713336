"""The mark, the word and the meaning of each verdict, for all tables, charts and texts."""

from collections.abc import Mapping
from dataclasses import dataclass

from prunelake.schema.verdicts import Verdict


@dataclass(frozen=True)
class VerdictLabel:
    """The mark and the word for a narrow cell, and their meaning."""

    mark: str
    word: str
    meaning: str


VERDICT_LABELS: Mapping[str, VerdictLabel] = {
    Verdict.hidden_degradation: VerdictLabel("!", "hidden", "worse while accuracy is stable"),
    Verdict.visible_degradation: VerdictLabel("v", "visible", "worse while accuracy falls"),
    Verdict.worse: VerdictLabel("w", "worse", "worse while accuracy is inconclusive or rises"),
    Verdict.worse_within_margin: VerdictLabel("~", "slight", "worse by less than its margin"),
    Verdict.equivalent: VerdictLabel("=", "equivalent", "within its margin of unpruned"),
    Verdict.improved: VerdictLabel("+", "improved", "better than unpruned"),
    Verdict.inconclusive: VerdictLabel("?", "inconclusive", "too few examples to tell"),
}
"""Each verdict of `run_metrics.headline_metrics`, worst first."""

VERDICT_CLAUSES: Mapping[str, str] = {
    Verdict.hidden_degradation: "hidden degradation of",
    Verdict.visible_degradation: "visible loss of",
    Verdict.worse: "while accuracy is inconclusive or rises, worse",
    Verdict.worse_within_margin: "worse within its margin:",
    Verdict.improved: "improved:",
    Verdict.equivalent: "within its margin:",
    Verdict.inconclusive: "undecided with these rows:",
}
"""The words of a sentence in front of the metrics with each verdict, worst first."""
