"""Predict: the log-likelihoods of the options of each example, at every level of a sweep."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from prunelake.analysis.confidence import option_probabilities
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.run_tables import PREDICTIONS
from prunelake.tasks.encoding import EncodedExample


def predict(
    model: NestedModel,
    run_id: str,
    examples: Sequence[EncodedExample],
    levels: tuple[int, ...],
    progress: Progress | None = None,
    known: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The frame of `predictions`: one row for each level and example, level 0 first.

    A tie goes to the first option. Cells that have a row in `known` are left out.

    Raises:
        ModelError: as `NestedModel.log_likelihoods`.
    """
    known_keys = PREDICTIONS.cell_keys(known)
    asked: list[tuple[EncodedExample, tuple[int, ...], list[ScoringQuery]]] = []
    for encoded in examples:
        missing = tuple(
            level for level in levels if (level, encoded.example.example_id) not in known_keys
        )
        if missing:
            asked.append((encoded, missing, _queries(encoded, missing)))
    queries = [query for *_, own in asked for query in own]
    answered = iter(model.log_likelihoods(queries, progress))
    rows = []
    for encoded, missing, own in asked:
        answers = np.concatenate([next(answered) for _ in own], axis=1)
        example = encoded.example
        option_bytes = example.option_bytes
        for level, log_likelihoods in zip(missing, answers, strict=True):
            prediction = int(log_likelihoods.argmax())
            prediction_norm = int((log_likelihoods / option_bytes).argmax())
            rows.append(
                {
                    "run_id": run_id,
                    "level": level,
                    "example_id": example.example_id,
                    "option_log_likelihoods": log_likelihoods.tolist(),
                    "option_bytes": option_bytes,
                    "gold": example.gold,
                    "prediction": prediction,
                    "prediction_norm": prediction_norm,
                    "is_correct": prediction == example.gold,
                    "is_correct_norm": prediction_norm == example.gold,
                    "confidence": float(option_probabilities(log_likelihoods)[prediction]),
                }
            )
    return PREDICTIONS.frame(rows).sort("level", maintain_order=True)


def _queries(encoded: EncodedExample, levels: tuple[int, ...]) -> list[ScoringQuery]:
    """The query of an example, or a query for each option if options begin with unscored tokens.

    Queries share the work of a common beginning in both cases.
    """
    context = (*encoded.prefix, *encoded.prompt)
    if not encoded.beginnings:
        return [ScoringQuery(context, encoded.options, levels)]
    return [
        ScoringQuery((*context, *beginning), (option,), levels)
        for beginning, option in zip(encoded.beginnings, encoded.options, strict=True)
    ]
