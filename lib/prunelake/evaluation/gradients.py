"""Gradients of log-likelihoods to the prompt's embeddings, for many levels in one pass."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import PrefixTree, ScoringQuery, batch_inputs, build_tree
from prunelake.schema.arrays import FloatArray

TOKEN_BUDGET_SHARE = 1 / 8
"""Fewer tokens run together: a backward pass needs what every block has computed."""


def input_x_gradient(model: NestedModel, queries: Sequence[ScoringQuery]) -> list[FloatArray]:
    """Gradient of an option's log-likelihood times the embeddings: [levels, prompt tokens] each.

    Summed over an embedding's width, in nats: how the log-likelihood changes as the token's
    embedding is scaled. A query has one option. Every level of a query is a row of its own, for its
    gradient is.

    Raises:
        UnknownLayer, ModelError: as `NestedModel.log_likelihoods`.
    """
    rows = [
        build_tree([replace(query, levels=(level,))]) for query in queries for level in query.levels
    ]
    lengths = [len(query.prompt) for query in queries for _ in query.levels]

    def score(batch: list[PrefixTree]) -> list[FloatArray]:
        return [product[None] for product in _gradient_times_embedding(model, batch)]

    found = model.score_in_batches(rows, score, TOKEN_BUDGET_SHARE)
    products = iter([one[0, :length] for one, length in zip(found, lengths, strict=True)])
    return [np.array([next(products) for _ in query.levels]) for query in queries]


@torch.enable_grad()
def _gradient_times_embedding(model: NestedModel, rows: list[PrefixTree]) -> FloatArray:
    """For each row and each of its tokens the gradient times the embedding."""
    inputs = batch_inputs(rows, model.model.dtype)
    ids = inputs.pop("input_ids").to(model.model.device)
    embeddings = model.model.get_input_embeddings()(ids).detach().requires_grad_()
    hidden, states = model.run_batch(rows, inputs | {"inputs_embeds": embeddings})
    values, _ = model.target_log_likelihoods(hidden, states, rows)
    # A row's log-likelihood depends on no other row's embeddings.
    (gradient,) = torch.autograd.grad(values.sum(), embeddings)
    product: FloatArray = (gradient * embeddings).detach().double().sum(-1).cpu().numpy()
    return product
