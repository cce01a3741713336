"""Refuse numbers that are not finite: a format with a small range overflows."""

from collections.abc import Sequence

import numpy as np

from prunelake.errors import ModelError
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import FloatArray


def check_finite(
    queries: Sequence[ScoringQuery], answers: Sequence[FloatArray], kind: str = "log-likelihoods"
) -> None:
    """Check the answers [levels, ...] to queries: complete, masked and shortened prompts alike.

    Raises:
        ModelError: an answer with an infinite number or NaN.
    """
    for query, by_level in zip(queries, answers, strict=True):
        for level, values in zip(query.levels, by_level, strict=True):
            if not np.isfinite(values).all():
                raise ModelError(
                    f"at level {level} the model gives a prompt of {len(query.prompt)} tokens the "
                    f"{kind} {values.tolist()}; its numbers overflow: take dtype float32 or "
                    "bfloat16"
                )
