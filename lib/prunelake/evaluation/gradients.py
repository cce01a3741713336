"""Gradients of log-likelihoods with respect to the prompt's embeddings, many levels in one pass."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from prunelake.inference.nested import NestedModel
from prunelake.inference.overflow import check_finite
from prunelake.inference.prefix_tree import PrefixTree, ScoringQuery, batch_inputs, build_tree
from prunelake.schema.arrays import FloatArray


def input_x_gradient(model: NestedModel, queries: Sequence[ScoringQuery]) -> list[FloatArray]:
    """For each query the gradient of its option's log-likelihood times the embeddings, in nats.

    Each array is [levels, prompt tokens], summed over the width of the embeddings: the rate at
    which the log-likelihood changes when the token's embedding is scaled. A query has exactly one
    option. Each level of a query takes its own row in a batch, because its gradient differs.

    Raises:
        UnknownLayer, ModelError: as `NestedModel.log_likelihoods`.
    """
    rows = [
        build_tree([replace(query, levels=(level,))]) for query in queries for level in query.levels
    ]
    lengths = [len(query.prompt) for query in queries for _ in query.levels]

    def score_batch(batch: list[PrefixTree]) -> list[FloatArray]:
        return [product[None] for product in _gradient_times_embedding(model, batch)]

    padded = model.score_in_batches(rows, score_batch, model.gradient_budget)
    products = iter([row[0, :length] for row, length in zip(padded, lengths, strict=True)])
    gradients = [np.array([next(products) for _ in query.levels]) for query in queries]
    check_finite(queries, gradients, "gradients")
    return gradients


@torch.enable_grad()
def _gradient_times_embedding(model: NestedModel, rows: list[PrefixTree]) -> FloatArray:
    """The gradient times the embedding of each token of each row: [rows, tokens]."""
    inputs = batch_inputs(rows, model.model.dtype, model.lengths)
    ids = inputs.pop("input_ids").to(model.model.device)
    embeddings = model.model.get_input_embeddings()(ids).detach().requires_grad_()
    hidden, states = model.run_batch(rows, inputs | {"inputs_embeds": embeddings})
    values, _ = model.target_log_likelihoods(hidden, states, rows)
    # A row's log-likelihood depends on no other row's embeddings.
    (gradient,) = torch.autograd.grad(values.sum(), embeddings)
    product: FloatArray = (gradient * embeddings).detach().double().sum(-1).cpu().numpy()
    return product
