"""Log-likelihoods of tokens from the last hidden states of a pass."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prunelake.inference.batches import max_logit_rows
from prunelake.inference.transfer import send_indices
from prunelake.models.decoder.decoder_probe import apply_lm_head

CPU_CACHE_ELEMENTS = 2**19
"""Logits that a CPU sums at a time: they and their exponentials stay in its cache."""


def token_log_likelihoods(
    model: PreTrainedModel,
    hidden: Tensor,
    places: NDArray[np.int64],
    predicting: NDArray[np.int64],
    ids: NDArray[np.int64],
) -> Tensor:
    """Log-likelihoods [targets] in float32.

    The head runs once for each place that predicts a token, in chunks of bounded memory.

    Args:
        model: the model whose last hidden states these are.
        hidden: the states [rows, tokens, width].
        places: the places that predict, counted over all rows.
        predicting: the index in `places` of each target, ascending.
        ids: the token of each target.
    """
    chunk = max_logit_rows(model)
    read, columns, tokens = send_indices([places, predicting % chunk, ids], hidden.device)
    wanted = hidden.flatten(0, 1).index_select(0, read)
    parts = []
    for start in range(0, len(places), chunk):
        logits = apply_lm_head(model, wanted[start : start + chunk])
        first, last = np.searchsorted(predicting, (start, start + chunk))
        column = columns[first:last].to(logits.device)
        chosen = logits[column, tokens[first:last].to(logits.device)].float()
        parts.append(chosen - _log_normalisers(logits)[column])
    return torch.cat(parts)


def _log_normalisers(logits: Tensor) -> Tensor:
    """Log of the sum of each row's exponentials, added up in float32."""
    rows = len(logits)
    if logits.device.type == "cpu":
        rows = max(1, CPU_CACHE_ELEMENTS // logits.shape[-1])
    starts = range(0, len(logits), rows)
    return torch.cat([logits[start : start + rows].float().logsumexp(-1) for start in starts])
