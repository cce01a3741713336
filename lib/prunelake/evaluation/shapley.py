"""Shapley values from few samples: leverage-score KernelSHAP on paired samples, with a ridge.

A game gives every coalition (subset) of n players a value f. Its Shapley values phi solve a least
squares problem over all coalitions z except the empty and the full one (Charnes et al., 1988):

    minimise  sum_z w(z) (f(z) - f(empty) - sum of phi over z)^2,   w(z) = n / (C(n, s) s (n - s)),
    such that f(full) - f(empty) = sum of all phi,

where s is the size of z. KernelSHAP (Lundberg and Lee, NeurIPS 2017) solves it on sampled
coalitions. This module differs in three ways:

- It draws pairs of complementary coalitions, without replacement, by their leverage scores
  1 / C(n, s), so all sizes are equally likely. It weights them by w over their probability
  (Musco and Witter, "Provably Accurate Shapley Value Estimation via Leverage Score Sampling", ICLR
  2025). A pair cancels the terms of even order in the game, on which no Shapley value depends
  (Covert and Lee, AISTATS 2021).
- The constraint holds exactly: with equal shares subtracted, the scores sum to zero, and each row
  of the regression is z - s / n. For these rows the sum over all coalitions of w(z) row row^T is
  the identity.
- A ridge (Hoerl and Kennard, 1970) pulls the scores towards equal shares. It is not in the paper.
  With fewer than n - 1 pairs, least squares has no unique solution, and with slightly more its
  solution is unstable. The ridge is RIDGE x n / pairs, in proportion to the variance of a sampled
  sum. It is 0 when all coalitions are sampled, and the result is then exact. It does not depend
  on f, so the estimates are linear in the game: under the same coalitions, the difference between
  two levels is the estimate of their difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import comb, floor

import numpy as np

from prunelake.schema.arrays import BoolArray, FloatArray

RIDGE = 0.4
"""Chosen on three prompts that `benchmarks.explanations.shapley` excludes; 0.2 to 0.8 differ
little."""


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

    `sample_count` is the number of coalitions, including the empty and the full coalition. It is
    rounded down to an even number, and limited to at least 4 and at most 2^player_count.
    """
    existing = {
        size: comb(player_count, size) * _leverage(player_count, size) // 2
        for size in range(1, player_count // 2 + 1)
    }
    expected, counts = _pairs_by_size(player_count, sample_count, existing, rng)
    members = [np.zeros(player_count, dtype=bool)]
    weights = []
    for size, count in counts.items():
        members += _sample_distinct(player_count, size, count, rng)
        total = _leverage(player_count, size) * player_count / (size * (player_count - size))
        weights += [total / float(expected[size])] * count
    half = np.array(members)
    return Coalitions(np.concatenate([half, ~half]), np.array(weights))


def subsample_coalitions(
    coalitions: Coalitions, sample_count: int, rng: np.random.Generator
) -> Coalitions:
    """Draw some of `coalitions`, in the way in which `sample_coalitions` draws from all coalitions.

    The weights allow for both draws: weighted sums over pairs have the same expectation.
    """
    half, player_count = len(coalitions.masks) // 2, coalitions.masks.shape[1]
    sizes = coalitions.masks[1:half].sum(axis=1)
    existing = {size: int((sizes == size).sum()) for size in range(1, player_count // 2 + 1)}
    expected, counts = _pairs_by_size(player_count, sample_count, existing, rng)
    chosen: list[int] = []
    weights: list[float] = []
    for size, count in counts.items():
        drawn = rng.choice(np.flatnonzero(sizes == size), count, replace=False)
        chosen += drawn.tolist()
        probability = float(expected[size]) / existing[size] if count else 1.0
        weights += (coalitions.weights[drawn] / probability).tolist()
    kept = coalitions.masks[[0, *(1 + pair for pair in chosen)]]
    return Coalitions(np.concatenate([kept, ~kept]), np.array(weights))


def shapley_values(coalitions: Coalitions, values: FloatArray, ridge: float = RIDGE) -> FloatArray:
    """The scores [players], from the game's values [masks]; they sum to f(full) - f(empty).

    They are exact if `coalitions` contains all coalitions.
    """
    half = len(values) // 2
    player_count = coalitions.masks.shape[1]
    pair_count = half - 1
    surplus = values[half] - values[0]
    rows = coalitions.masks[1:half].astype(float)
    rows -= rows.mean(axis=1, keepdims=True)
    odd = odd_parts(coalitions, values)
    weighted = rows.T * coalitions.weights
    share_left = 1 - pair_count / (2 ** (player_count - 1) - 1)
    penalty = ridge * player_count / pair_count * share_left
    # Rows sum to zero; the constant keeps the sum of the scores at zero and the matrix regular.
    gram = weighted @ rows + penalty * np.eye(player_count) + 1 / player_count
    scores: FloatArray = np.linalg.solve(gram, weighted @ odd) + surplus / player_count
    return scores


def odd_parts(coalitions: Coalitions, values: FloatArray) -> FloatArray:
    """The part [pairs] of a game's values that moves scores away from equal shares.

    The rows of a pair are each other's negatives, so least squares use only half the difference of
    their values. The weighted sum of the squares estimates the sum of squares of the scores around
    their mean, and exceeds it by the odd interactions of three and more players.
    """
    half = len(values) // 2
    shares = coalitions.masks[1:half].mean(axis=1)
    surplus = values[half] - values[0]
    odd: FloatArray = (values[1:half] - values[half + 1 :]) / 2 - (shares - 0.5) * surplus
    return odd


def _leverage(player_count: int, size: int) -> int:
    """The total leverage of all coalitions of `size` and their complements; each size has 1."""
    return 1 if 2 * size == player_count else 2


def _pairs_by_size(
    player_count: int, sample_count: int, existing: Mapping[int, int], rng: np.random.Generator
) -> tuple[dict[int, Fraction], dict[int, int]]:
    """The expected and the drawn number of pairs by size, out of `existing` pairs by size."""
    pair_count = min(max(sample_count, 4) // 2 - 1, sum(existing.values()))
    expected = _expected_pairs(player_count, pair_count, existing)
    # Systematic rounding: one random offset for all sizes keeps each expectation and the total.
    end = Fraction(rng.random())
    counts = {}
    for size, pairs in expected.items():
        counts[size] = floor(end + pairs) - floor(end)
        end += pairs
    return expected, counts


def _expected_pairs(
    player_count: int, pair_count: int, existing: Mapping[int, int]
) -> dict[int, Fraction]:
    """The expected number of drawn pairs by size: by leverage, at most all existing pairs.

    The numbers are exact fractions, because a rounding error could ask for more pairs than exist.
    """
    leverages = {size: _leverage(player_count, size) for size in existing}
    left, leverage_left = Fraction(pair_count), sum(leverages.values())
    expected = {}
    # Sizes with few pairs come first, because the rest of their share goes to the other sizes.
    for size in sorted(existing, key=lambda size: Fraction(existing[size], leverages[size])):
        expected[size] = min(Fraction(existing[size]), left * leverages[size] / leverage_left)
        left -= expected[size]
        leverage_left -= leverages[size]
    return {size: expected[size] for size in existing}


def _sample_distinct(
    player_count: int, size: int, count: int, rng: np.random.Generator
) -> list[BoolArray]:
    """`count` different coalitions of one size; no two are complements of each other."""
    coalitions: dict[bytes, BoolArray] = {}
    while len(coalitions) < count:
        mask = np.zeros(player_count, dtype=bool)
        mask[rng.choice(player_count, size, replace=False)] = True
        if 2 * size == player_count and not mask[0]:
            mask = ~mask
        coalitions[mask.tobytes()] = mask
    return [*coalitions.values()]
