"""Shapley values from few samples: leverage-score KernelSHAP with pairs, steadied by a ridge.

A game gives every coalition (subset) of n players a value f. Its Shapley values phi solve a least
squares problem over all coalitions z but the empty and the full one (Charnes et al., 1988):

    minimise  sum_z w(z) (f(z) - f(empty) - sum of phi over z)^2,   w(z) = n / (C(n, s) s (n - s)),
    such that f(full) - f(empty) = sum of all phi,

s the size of z. KernelSHAP (Lundberg and Lee, NeurIPS 2017) solves it on sampled coalitions. Here

- pairs of complements are drawn, without replacement, by their leverage scores 1 / C(n, s), that
  is, all sizes alike, and weighed by w over their chance (Musco and Witter, "Provably Accurate
  Shapley Value Estimation via Leverage Score Sampling", ICLR 2025). A pair cancels what the game
  has of even order, which no Shapley value depends on (Covert and Lee, AISTATS 2021);
- the constraint is not sampled: with equal shares taken off, the scores sum to zero, and each row
  is z - s / n. In these rows the sum over all coalitions of w(z) row row^T is the identity;
- a ridge (Hoerl and Kennard, 1970) draws the scores towards equal shares. This is not in the paper:
  below n - 1 pairs least squares has no single answer, and near them a wild one. The ridge is
  RIDGE x n / pairs, as the noise of a sampled sum falls, and ends where all coalitions are there,
  whose answer is exact. It does not depend on f: estimates are linear in the game, and under the
  same coalitions the difference of two levels is the estimate of their difference.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import comb, floor

import numpy as np

from prunelake.schema.arrays import BoolArray, FloatArray

RIDGE = 0.4
"""Chosen on three prompts that `benchmarks/shapley.py` leaves out; 0.2 to 0.8 differ little."""


@dataclass(frozen=True)
class Coalitions:
    """Coalitions on which a game is played, in pairs of complements.

    `masks` [2 + 2 x pairs, players] says who is in: the empty coalition, one of each pair, and in
    the same order the complements of them all. `weights` [pairs] are those of the regression.
    """

    masks: BoolArray
    weights: FloatArray


def sample_coalitions(player_count: int, sample_count: int, rng: np.random.Generator) -> Coalitions:
    """Draw coalitions of at least two players.

    `sample_count` counts all of them, the empty and the full one too. Of an odd number the last is
    not used; there are at least 4 and at most all 2^n.
    """
    pair_count = min(max(sample_count, 4) // 2 - 1, 2 ** (player_count - 1) - 1)
    sizes = range(1, player_count // 2 + 1)
    expected = _expected_pairs(player_count, pair_count)
    # Systematic rounding: one offset for all sizes keeps each expectation and the total.
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
    """One score a player, from the game's values [masks]; they sum to f(full) - f(empty).

    Exact where the coalitions are all there are.
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
    """Leverage of all pairs of `size` and its complement: that of one size is 1."""
    return 1 if 2 * size == player_count else 2


def _expected_pairs(player_count: int, pair_count: int) -> list[Fraction]:
    """How many pairs of each size to draw on average: by leverage, and not more than there are.

    Fractions, as a rounding error could ask for more pairs than there are.
    """
    left = Fraction(pair_count)
    leverage_left = player_count - 1
    expected = []
    for size in range(1, player_count // 2 + 1):  # what a size cannot take goes to the larger ones
        own = _leverage(player_count, size)
        existing = comb(player_count, size) * own // 2
        expected.append(min(Fraction(existing), left * own / leverage_left))
        left -= expected[-1]
        leverage_left -= own
    return expected


def _sample_distinct(
    player_count: int, size: int, count: int, rng: np.random.Generator
) -> list[BoolArray]:
    """`count` different coalitions of a size, no two of them complements."""
    found: dict[bytes, BoolArray] = {}
    while len(found) < count:
        mask = np.zeros(player_count, dtype=bool)
        mask[rng.choice(player_count, size, replace=False)] = True
        if 2 * size == player_count and not mask[0]:
            mask = ~mask
        found[mask.tobytes()] = mask
    return [*found.values()]
