"""The findings of a comparison: for each candidate, its metrics grouped by their verdicts."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from prunelake.schema.metrics import FAITHFULNESS_METRICS
from prunelake.schema.verdicts import Verdict

from .changes import changed_values
from .verdict_labels import VERDICT_CLAUSES
from .wording import label, listed

SHOWN_METRICS = ("accuracy", "flip_rate", "ece", *FAITHFULNESS_METRICS)

WITH_VALUES = (
    *(Verdict.hidden_degradation, Verdict.visible_degradation, Verdict.worse),
    *(Verdict.worse_within_margin, Verdict.improved),
)


def candidate_sentence(candidate: Mapping[str, Any], levels: pl.DataFrame) -> str:
    """The losses of a candidate and the metrics that it keeps, in one sentence.

    `candidate` is a row of `queries.candidates`, and `levels` are the run's rows of
    `run_metrics.headline_metrics`.
    """
    own = levels.filter(pl.col("level") == candidate["level"])
    rows = {row["metric"]: row for row in own.iter_rows(named=True)}
    clauses = []
    for verdict, words in VERDICT_CLAUSES.items():
        names = [n for n in SHOWN_METRICS if n in rows and rows[n]["verdict"] == verdict]
        if names:
            text = listed([*map(label, names)])
            if verdict in WITH_VALUES:
                text = changed_values(levels, names, candidate["level"])
            clauses.append(f"{words} {text}")
    return f"{candidate['label']}: {'; '.join(clauses) or 'nothing can be tested'}."
