"""The bootstrap of perplexity: against repeated prompts, and against a known truth."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from prunelake.analysis import statistics
from prunelake.analysis.bootstrap import paired_perplexity
from prunelake.analysis.text_scores import TextScores


def drawn(n: int, generator: np.random.Generator) -> TextScores:
    """Prompts of two levels; long prompts are more likely, and level 1 is worse."""
    tokens = generator.integers(10, 60, n).astype(float)
    nats = 3.3 + 0.4 * generator.normal(size=n) - 0.004 * tokens
    worse = nats + 0.2 + 0.15 * generator.normal(size=n)
    return TextScores(np.array([nats * tokens, worse * tokens]), np.array([tokens, tokens]))


def test_a_resample_has_the_perplexity_of_its_repeated_prompts() -> None:
    texts = drawn(12, np.random.default_rng(0))
    texts.nll[1, 3] = texts.tokens[1, 3] = np.nan
    weights = statistics.bootstrap_weights(np.zeros(12, dtype=int), 5, seed=1)
    metric = paired_perplexity(texts, 1, 0, weights)
    assert (metric.n, metric.paired_n) == (11, 11)
    both = np.delete(np.arange(12), 3)

    def perplexity(level: int, rows: NDArray[np.int64]) -> float:
        return math.exp(texts.nll[level][rows].sum() / texts.tokens[level][rows].sum())

    assert metric.value == metric.paired_value == pytest.approx(perplexity(1, both))
    assert metric.baseline_value == pytest.approx(perplexity(0, both))
    for replicate, column in enumerate(weights.T):
        rows = np.repeat(np.arange(12), column.astype(int))
        rows = rows[rows != 3]
        assert metric.replicates[replicate] == pytest.approx(perplexity(1, rows))
        change = perplexity(1, rows) - perplexity(0, rows)
        assert metric.differences[replicate] == pytest.approx(change)


def test_95_of_100_intervals_of_20_prompts_hold_the_truth() -> None:
    generator = np.random.default_rng(0)
    everything = drawn(10**6, generator)
    unpruned, truth = np.exp(everything.nll.sum(axis=1) / everything.tokens.sum(axis=1))
    held = held_change = 0
    for sample in range(200):
        weights = statistics.bootstrap_weights(np.zeros(20, dtype=int), 200, sample)
        metric = paired_perplexity(drawn(20, generator), 1, 0, weights)
        low, high = metric.interval(1, math.inf)
        held += low <= truth <= high
        change = metric.difference
        held_change += change.low <= truth - unpruned <= change.high
    # 190 of 200 intervals should hold the truth, with a standard deviation of 3.
    assert 181 <= held <= 199
    assert 181 <= held_change <= 199
