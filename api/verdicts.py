"""How a verdict is marked and worded, wherever it is shown."""

from dataclasses import dataclass

from prunelake.analysis.analyse import MARGIN


@dataclass(frozen=True)
class Verdict:
    """The mark and the word of a narrow cell, and what they mean."""

    mark: str
    word: str
    meaning: str


VERDICTS = {
    "hidden degradation": Verdict("!", "hidden", "worse while accuracy is stable"),
    "visible degradation": Verdict("v", "visible", "worse while accuracy falls"),
    "worse": Verdict("w", "worse", "worse while accuracy is inconclusive"),
    "equivalent": Verdict("=", "equivalent", f"within {MARGIN} of unpruned"),
    "improved": Verdict("+", "improved", "better than unpruned"),
    "inconclusive": Verdict("?", "inconclusive", "neither change nor equivalence is shown"),
}
"""Each verdict of `queries.levels`, worst first."""
