"""Shapley values from few samples: leverage-score KernelSHAP on paired samples, with a ridge.

A game gives every coalition (subset) of n players a value f. Its Shapley values phi solve a least
squares problem over all coalitions z except the empty and the full one (Charnes et al., 1988):

    minimise  sum_z w(z) (f(z) - f(empty) - sum of phi over z)^2,   w(z) = n / (C(n, s) s (n - s)),
    such that f(full) - f(empty) = sum of all phi,

where s is the size of z. KernelSHAP (Lundberg and Lee, NeurIPS 2017) solves it on sampled
coalitions. This module differs in three ways:

- It draws pairs of complementary coalitions, without replacement, by their leverage scores
  1 / C(n, s), so that all sizes are equally likely, and weights them by w over their probability
  (Musco and Witter, "Provably Accurate Shapley Value Estimation via Leverage Score Sampling", ICLR
  2025). A pair cancels the terms of even order in the game, on which no Shapley value depends
  (Covert and Lee, AISTATS 2021).
- The constraint holds exactly: with equal shares subtracted, the scores sum to zero, and each row
  of the regression is z - s / n. For these rows the sum over all coalitions of w(z) row row^T is
  the identity.
- A ridge (Hoerl and Kennard, 1970) pulls the scores towards equal shares. It is not in the paper.
  With fewer than n - 1 pairs, least squares has no unique solution, and with slightly more its
  solution is unstable. The ridge is RIDGE x n / pairs, in proportion to the variance of a sampled
  sum. It vanishes when all coalitions are sampled, and the result is then exact. It does not depend
  on f, so the estimates are linear in the game: under the same coalitions, the difference between
  two levels is the estimate of their difference.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import comb, floor

import numpy as np

from prunelake.schema.arrays import BoolArray, FloatArray

RIDGE = 0.4
"""Chosen on three prompts that `benchmarks/shapley.py` excludes; 0.2 to 0.8 differ little."""


@dataclass(frozen=True)
class Coalitions:
    """The coalitions on which a game is evaluated, in pairs of complements.

    - `masks` [2 + 2 x pairs, players] marks the members: first the empty coalition and one
      coalition of each pair, then the complements of all these in the same order.
    - `weights` [pairs] are the weights of the regression.
    """

    masks: BoolArray
    weights: FloatArray


def sample_coalitions(player_count: int, sample_count: int, rng: np.random.Generator) -> Coalitions:
    """Draw coalitions for a game of at least two players.

    `sample_count` is the number of coalitions, with the empty and the full one. It is rounded down
    to an even number, and limited to at least 4 and at most 2^player_count.
    """
    pair_count = min(max(sample_count, 4) // 2 - 1, 2 ** (player_count - 1) - 1)
    sizes = range(1, player_count // 2 + 1)
    expected = _expected_pairs(player_count, pair_count)
    # Systematic rounding: one random offset for all sizes keeps each expectation and the total.
    ends = [Fraction(rng.random())]
    for pairs in expected:
        ends.append(ends[-1] + pairs)
    members = [np.zeros(player_count, dtype=bool)]
    weights = []
    for size, pairs, start, end in zip(sizes, expected, ends, ends[1:], strict=False):
        count = floor(end) - floor(start)
        members += _sample_distinct(player_count, size, count, rng)
        total = _leverage(player_count, size) * player_count / (size * (player_count - size))
        weights += [total / float(pairs)] * count
    half = np.array(members)
    return Coalitions(np.concatenate([half, ~half]), np.array(weights))


def shapley_values(coalitions: Coalitions, values: FloatArray) -> FloatArray:
    """The scores [players], from the game's values [masks]; they sum to f(full) - f(empty).

    They are exact if `coalitions` are all coalitions.
    """
    half = len(values) // 2
    player_count = coalitions.masks.shape[1]
    pair_count = half - 1
    surplus = values[half] - values[0]
    rows = coalitions.masks[1:half].astype(float)
    shares = rows.mean(axis=1)
    rows -= shares[:, None]
    # The rows of a pair are each other's negatives, so their least squares see half the difference.
    odd = (values[1:half] - values[half + 1 :]) / 2 - (shares - 0.5) * surplus
    weighted = rows.T * coalitions.weights
    ridge = RIDGE * player_count / pair_count * (1 - pair_count / (2 ** (player_count - 1) - 1))
    # Rows sum to zero; the constant keeps the sum of the scores at zero and the matrix regular.
    gram = weighted @ rows + ridge * np.eye(player_count) + 1 / player_count
    scores: FloatArray = np.linalg.solve(gram, weighted @ odd) + surplus / player_count
    return scores


def _leverage(player_count: int, size: int) -> int:
    """The total leverage of all coalitions of `size` and their complements; that of a size is 1."""
    return 1 if 2 * size == player_count else 2


def _expected_pairs(player_count: int, pair_count: int) -> list[Fraction]:
    """The expected number of drawn pairs for each size: by leverage, at most all that exist.

    Exact fractions, because a rounding error could ask for more pairs than exist.
    """
    left = Fraction(pair_count)
    leverage_left = player_count - 1
    expected = []
    for size in range(1, player_count // 2 + 1):  # larger sizes get what a size cannot take
        leverage = _leverage(player_count, size)
        existing = comb(player_count, size) * leverage // 2
        expected.append(min(Fraction(existing), left * leverage / leverage_left))
        left -= expected[-1]
        leverage_left -= leverage
    return expected


def _sample_distinct(
    player_count: int, size: int, count: int, rng: np.random.Generator
) -> list[BoolArray]:
    """`count` different coalitions of one size, without any two complements."""
    coalitions: dict[bytes, BoolArray] = {}
    while len(coalitions) < count:
        mask = np.zeros(player_count, dtype=bool)
        mask[rng.choice(player_count, size, replace=False)] = True
        if 2 * size == player_count and not mask[0]:
            mask = ~mask
        coalitions[mask.tobytes()] = mask
    return [*coalitions.values()]
