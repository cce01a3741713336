"""Run a batch in smaller parts if memory does not hold it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from prunelake.errors import ModelError, one_line
from prunelake.inference.batches import TokenBudget
from prunelake.inference.prefix_tree import PrefixTree
from prunelake.models.gpu.memory import is_device_failure, is_out_of_memory
from prunelake.schema.arrays import FloatArray

BatchScorer = Callable[[list[PrefixTree]], Sequence[FloatArray]]
"""Maps rows to an array [levels, ...] for each row."""


def score_within_memory(
    rows: list[PrefixTree],
    score: BatchScorer,
    budget: TokenBudget,
    largest_row: int,
    device: torch.device,
) -> Sequence[FloatArray]:
    """The result of `score`; if memory is too small, batches are smaller from now on.

    Args:
        rows: one batch.
        score: runs the model on `device`.
        budget: it is halved if the memory does not hold the batch.
        largest_row: tokens x levels of a row that are tried without splitting its levels.

    Raises:
        ModelError: the memory does not hold one row at one level, or the device has failed.
    """

    def again(part: list[PrefixTree]) -> Sequence[FloatArray]:
        return score_within_memory(part, score, budget, largest_row, device)

    levels = rows[0].levels
    is_too_large = len(levels) > 1 and len(levels) * len(rows[0].tokens) > largest_row
    if len(rows) > 1 or not is_too_large:
        try:
            return score(rows)
        except RuntimeError as error:
            if is_device_failure(error):
                raise ModelError(
                    f"{device} failed ({one_line(error)}); start the sweep again "
                    "in a new process: finished shards are kept"
                ) from error
            if not is_out_of_memory(error):
                raise
            if len(rows) == len(levels) == 1:
                raise ModelError(
                    f"{device} has too little memory for one sequence of "
                    f"{len(rows[0].tokens)} tokens; take dtype bfloat16, or "
                    "PRUNELAKE_DEVICE=cpu"
                ) from error
        # This runs after the handler, because before that the error keeps the failed batch's
        # tensors.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        budget.halve()
    if len(rows) > 1:
        half = len(rows) // 2
        return [*again(rows[:half]), *again(rows[half:])]
    half = len(levels) // 2
    parts = [replace(rows[0], levels=own) for own in (levels[:half], levels[half:])]
    found = [again([part])[0] for part in parts]
    return [np.concatenate(found)]
