"""Confidence: the probability that a model gives to an option, among the options of an example."""

from scipy.special import softmax

from prunelake.schema.arrays import FloatArray


def option_probabilities(log_likelihoods: FloatArray) -> FloatArray:
    """The softmax of log-likelihoods [..., options], in nats: probabilities of the same shape.

    An option of -inf has probability 0, so that examples may have different numbers of options.
    """
    probabilities: FloatArray = softmax(log_likelihoods, axis=-1)
    return probabilities
