"""Confidence: the probability that a model gives to an option, among the options of an example.

The order of the options changes no probability, not even in the last bit: a sum of floats depends
on the order of its terms, so the terms are sorted first. Otherwise two predictions with equal
probabilities would differ by rounding, which decides ties in AUROC.
"""

import numpy as np

from prunelake.schema.arrays import FloatArray


def option_probabilities(log_likelihoods: FloatArray) -> FloatArray:
    """The softmax of log-likelihoods [..., options], in nats: probabilities of the same shape.

    An option of -inf has probability 0, so that examples may have different numbers of options.
    """
    weights = np.exp(log_likelihoods - log_likelihoods.max(axis=-1, keepdims=True))
    probabilities: FloatArray = weights / _sorted_sum(weights)
    return probabilities


def log_option_probabilities(log_likelihoods: FloatArray) -> FloatArray:
    """The logarithms of `option_probabilities`: nats of the same shape [..., options]."""
    shifted = log_likelihoods - log_likelihoods.max(axis=-1, keepdims=True)
    logarithms: FloatArray = shifted - np.log(_sorted_sum(np.exp(shifted)))
    return logarithms


def _sorted_sum(weights: FloatArray) -> FloatArray:
    total: FloatArray = np.sort(weights, axis=-1).sum(axis=-1, keepdims=True)
    return total
