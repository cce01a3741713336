"""The mark, the word and the meaning of each verdict, the same everywhere."""

from dataclasses import dataclass

from prunelake.schema.metrics import DEFAULT_MARGIN


@dataclass(frozen=True)
class VerdictLabel:
    """The mark and the word for a narrow cell, and their meaning."""

    mark: str
    word: str
    meaning: str


VERDICT_LABELS = {
    "hidden degradation": VerdictLabel("!", "hidden", "worse while accuracy is stable"),
    "visible degradation": VerdictLabel("v", "visible", "worse while accuracy falls"),
    "worse": VerdictLabel("w", "worse", "worse while accuracy is inconclusive"),
    "equivalent": VerdictLabel("=", "equivalent", f"within {DEFAULT_MARGIN} of unpruned"),
    "improved": VerdictLabel("+", "improved", "better than unpruned"),
    "inconclusive": VerdictLabel("?", "inconclusive", "neither change nor equivalence is shown"),
}
"""Each verdict of `run_metrics.headline_metrics`, worst first."""
