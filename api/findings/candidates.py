"""The findings of a comparison: for each candidate, its metrics grouped by their verdicts."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from prunelake.schema.metrics import FAITHFULNESS_METRICS
from prunelake.schema.verdicts import Verdict

from .wording import from_to, label, listed

SHOWN_METRICS = ("accuracy", "flip_rate", "ece", *FAITHFULNESS_METRICS)

CLAUSES: Mapping[str, str] = {
    Verdict.hidden_degradation: "hidden degradation of",
    Verdict.visible_degradation: "visible loss of",
    Verdict.worse: "while accuracy is inconclusive or rises, worse",
    Verdict.worse_within_margin: "worse within its margin:",
    Verdict.improved: "improved:",
    Verdict.equivalent: "within its margin:",
    Verdict.inconclusive: "undecided with these rows:",
}
"""The words in front of the metrics with each verdict, worst first."""

WITH_VALUES = (
    *(Verdict.hidden_degradation, Verdict.visible_degradation, Verdict.worse),
    *(Verdict.worse_within_margin, Verdict.improved),
)


def candidate_sentence(candidate: Mapping[str, Any], levels: pl.DataFrame) -> str:
    """What a candidate lost and kept, in one sentence.

    `candidate` is a row of `queries.candidates`, and `levels` are the run's rows of
    `run_metrics.headline_metrics`.
    """
    own = levels.filter(pl.col("level") == candidate["level"])
    rows = {row["metric"]: row for row in own.iter_rows(named=True)}
    clauses = []
    for verdict, words in CLAUSES.items():
        names = [n for n in SHOWN_METRICS if n in rows and rows[n]["verdict"] == verdict]
        if names:
            parts = [
                _changed(levels, rows[n]) if verdict in WITH_VALUES else label(n) for n in names
            ]
            clauses.append(f"{words} {listed(parts)}")
    return f"{candidate['label']}: {'; '.join(clauses) or 'nothing can be tested'}."


def _changed(levels: pl.DataFrame, row: Mapping[str, Any]) -> str:
    """A metric with its value at the baseline and at the candidate: ECE (0.14 to 0.17)."""
    before = levels.filter(metric=row["metric"], level=0)["value"]
    return f"{label(row['metric'])} ({from_to(before[0], row['value'])})"
