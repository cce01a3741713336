from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunelake.evaluation.shapley import (
    RIDGE,
    Coalitions,
    odd_parts,
    sample_coalitions,
    shapley_values,
    subsample_coalitions,
)

Floats = NDArray[np.float64]
PLAYERS = st.integers(2, 8)
COUNTS = st.integers(0, 300)
SEEDS = st.integers(0, 2**32 - 1)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def random_game(player_count: int, seed: int) -> Floats:
    """A value for every coalition; player i is a member if bit i of its index is set."""
    return np.asarray(rng(seed).normal(size=2**player_count))


def places(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(masks @ (1 << np.arange(masks.shape[1])))


def estimated(game: Floats, sample_count: int, seed: int) -> Floats:
    coalitions = sample_coalitions(len(game).bit_length() - 1, sample_count, rng(seed))
    return shapley_values(coalitions, game[places(coalitions.masks)])


def exact(game: Floats) -> Floats:
    """Shapley's definition: the mean gain from adding a player; all sizes weigh the same."""
    player_count = len(game).bit_length() - 1
    values = np.zeros(player_count)
    for player in range(player_count):
        others = [n for n in range(player_count) if n != player]
        for size in range(player_count):
            for members in combinations(others, size):
                place = sum(1 << n for n in members)
                added = game[place | 1 << player] - game[place]
                values[player] += added / player_count / comb(player_count - 1, size)
    return values


@given(PLAYERS, st.integers(0, 10), SEEDS)
def test_all_coalitions_give_the_shapley_values(players: int, surplus: int, seed: int) -> None:
    game = random_game(players, seed)
    got = estimated(game, 2**players + surplus, seed)
    np.testing.assert_allclose(got, exact(game), atol=1e-9)


@given(PLAYERS, COUNTS, SEEDS)
def test_coalitions_are_distinct_pairs_of_complements(players: int, count: int, seed: int) -> None:
    coalitions = sample_coalitions(players, count, rng(seed))
    used = min(max(count // 2 * 2, 4), 2**players)
    assert coalitions.masks.shape == (used, players)
    assert len(set(places(coalitions.masks))) == used
    first, second = np.split(coalitions.masks, 2)
    assert np.array_equal(first, ~second)
    assert not first[0].any()
    assert coalitions.weights.shape == (used // 2 - 1,)


@given(PLAYERS, COUNTS, SEEDS)
def test_scores_sum_to_the_gain_of_the_full_coalition(players: int, count: int, seed: int) -> None:
    game = random_game(players, seed)
    assert estimated(game, count, seed).sum() == pytest.approx(game[-1] - game[0], abs=1e-9)


@given(PLAYERS, COUNTS, SEEDS)
def test_scores_are_linear_in_the_game(players: int, count: int, seed: int) -> None:
    one, other = random_game(players, seed), random_game(players, seed + 1)
    parts = 2 * estimated(one, count, seed) - 3 * estimated(other, count, seed)
    np.testing.assert_allclose(estimated(2 * one - 3 * other, count, seed), parts, atol=1e-8)


@given(st.integers(3, 8), SEEDS)
def test_equal_players_have_equal_scores_and_idle_players_0(players: int, seed: int) -> None:
    game = random_game(players, seed)
    place = np.arange(2**players)
    swapped = place & ~0b11 | (place & 1) << 1 | (place & 2) >> 1  # players 0 and 1 trade places
    idle = place & ~(1 << players - 1)
    fair = game[idle] + game[swapped[idle]]
    got = estimated(fair, 2**players, seed)
    assert got[0] == pytest.approx(got[1], abs=1e-9)
    assert got[-1] == pytest.approx(0, abs=1e-9)


@given(PLAYERS, COUNTS, SEEDS)
def test_the_ridge_pulls_an_additive_game_towards_equal_shares(
    players: int, count: int, seed: int
) -> None:
    worth = rng(seed).normal(size=players)
    masks = np.arange(2**players)[:, None] >> np.arange(players) & 1
    spread = worth - worth.mean()
    got = estimated(5 + masks @ worth, count, seed) - worth.mean()
    # (G + ridge)^-1 G of a positive G has eigenvalues from 0 to 1.
    assert -1e-9 <= got @ spread <= spread @ spread + 1e-9
    assert np.linalg.norm(got) <= np.linalg.norm(spread) + 1e-9


@pytest.mark.parametrize("missing", [2, 512])
def test_a_few_missing_coalitions_hardly_change_an_additive_game(missing: int) -> None:
    worth = rng(3).normal(size=10)
    masks = np.arange(2**10)[:, None] >> np.arange(10) & 1
    got = estimated(masks @ worth, 2**10 - missing, 7)
    ridge = RIDGE * 10 / (511 - missing // 2) * (missing // 2) / 511
    assert np.abs(got - worth).max() < 1.5 * ridge * np.abs(worth - worth.mean()).max()


@pytest.mark.parametrize(
    ("players", "count", "drawn_from"),
    [
        (2, 4, None),
        (3, 4, None),
        (6, 6, None),
        (6, 16, None),
        (7, 60, None),
        (4, 6, 16),
        (5, 8, 12),
        (6, 16, 20),
    ],
)
def test_weighted_sums_over_draws_are_unbiased(
    players: int, count: int, drawn_from: int | None
) -> None:
    """The two sums of the regression are unbiased estimates of the identity and of Shapley values.

    This also holds for coalitions that are drawn from a first draw.
    """
    game, draws = random_game(players, 11), 2000
    share = (game[-1] - game[0]) / players
    grams, moments = [], []
    for seed in range(draws):
        if drawn_from:
            whole = sample_coalitions(players, drawn_from, rng(5, seed))
            coalitions = subsample_coalitions(whole, count, rng(6, seed))
        else:
            coalitions = sample_coalitions(players, count, rng(5, seed))
        pairs = len(coalitions.weights)
        inner = np.delete(coalitions.masks, [0, pairs + 1], axis=0)
        rows = inner - inner.mean(axis=1, keepdims=True)
        weighted = rows.T * np.tile(coalitions.weights, 2) / 2
        grams.append(weighted @ rows)
        moments.append(weighted @ (game[places(inner)] - game[0] - share * inner.sum(axis=1)))
    for sums, expected in (
        (grams, np.eye(players) - 1 / players),
        (moments, exact(game) - share),
    ):
        error = np.std(sums, axis=0) / np.sqrt(draws)
        assert (np.abs(np.mean(sums, axis=0) - expected) <= 4.5 * error + 1e-9).all()


@given(PLAYERS, COUNTS, COUNTS, SEEDS)
def test_a_part_of_drawn_coalitions_has_pairs_of_them(
    players: int, first: int, count: int, seed: int
) -> None:
    whole = sample_coalitions(players, first, rng(seed))
    part = subsample_coalitions(whole, count, rng(seed + 1))
    assert len(part.masks) == min(max(count // 2 * 2, 4), len(whole.masks))
    assert len(part.weights) == len(part.masks) // 2 - 1
    assert {*places(part.masks)} <= {*places(whole.masks)}
    assert len({*places(part.masks)}) == len(part.masks)
    one, other = np.split(part.masks, 2)
    assert np.array_equal(one, ~other)
    if len(part.masks) == len(whole.masks):
        game = random_game(players, seed)
        np.testing.assert_allclose(
            shapley_values(part, game[places(part.masks)]),
            shapley_values(whole, game[places(whole.masks)]),
            atol=1e-9,
        )


@given(st.integers(3, 8), COUNTS, SEEDS)
def test_scores_solve_the_constrained_problem(players: int, count: int, seed: int) -> None:
    """Lagrange's conditions for least squares over the coalitions, with the ridge and the sum."""
    game = random_game(players, seed)
    coalitions = sample_coalitions(players, count, rng(seed))
    pairs = len(coalitions.weights)
    surplus = game[-1] - game[0]
    inner = np.delete(coalitions.masks, [0, pairs + 1], axis=0).astype(float)
    weights = np.tile(coalitions.weights, 2) / 2
    ridge = RIDGE * players / pairs * (1 - pairs / (2 ** (players - 1) - 1))
    values = game[places(inner.astype(bool))] - game[0]
    conditions = np.ones((players + 1, players + 1))
    conditions[:-1, :-1] = (inner.T * weights) @ inner + ridge * np.eye(players)
    conditions[-1, -1] = 0
    known = (inner.T * weights) @ values + ridge * surplus / players
    expected = np.linalg.solve(conditions, [*known, surplus])[:-1]
    np.testing.assert_allclose(estimated(game, count, seed), expected, atol=1e-6)


@given(PLAYERS, SEEDS)
def test_the_weighted_squares_of_odd_parts_are_the_spread_of_an_additive_game(
    players: int, seed: int
) -> None:
    worth = rng(seed).normal(size=players)
    every = sample_coalitions(players, 2**players, rng(seed))
    odd = odd_parts(every, 3 + every.masks @ worth)
    assert every.weights @ odd**2 == pytest.approx(((worth - worth.mean()) ** 2).sum(), abs=1e-9)


def test_the_bias_of_the_scores_matches_the_ridge() -> None:
    game, draws = random_game(6, 2), 2000
    expected = exact(game)
    ridge = RIDGE * 6 / 23 * (1 - 23 / 31)
    scores = [estimated(game, 48, seed) for seed in range(draws)]
    error = np.std(scores, axis=0) / np.sqrt(draws)
    bias = np.abs(np.mean(scores, axis=0) - expected)
    assert (bias <= 2 * ridge * np.abs(expected - expected.mean()).max() + 4.5 * error).all()
    assert 2 * ridge < 0.06


def test_all_sizes_are_drawn_alike_until_they_run_out() -> None:
    """Sizes 1 to 3 of 8 players get equal shares of 20 pairs; size 4 gets half of such a share."""
    drawn_pairs: list[Floats] = []
    for seed in range(2000):
        sizes = sample_coalitions(8, 42, rng(seed)).masks[1:21].sum(axis=1)
        drawn_pairs.append(np.bincount(sizes, minlength=5)[1:].astype(float))
    assert set(np.sum(drawn_pairs, axis=1)) == {20}
    expected = np.array([40 / 7, 40 / 7, 40 / 7, 20 / 7])
    assert np.mean(drawn_pairs, axis=0) == pytest.approx(expected, abs=0.05)
    assert np.ptp(drawn_pairs, axis=0).max() <= 1
    all_of_size_one = [
        sample_coalitions(8, 82, rng(seed)).masks[1:9].sum(axis=1) for seed in range(20)
    ]
    assert np.array_equal(all_of_size_one, np.ones((20, 8)))


def test_the_seed_determines_the_draw() -> None:
    def draw(*seed: int) -> Coalitions:
        return sample_coalitions(9, 30, rng(*seed))

    assert np.array_equal(draw(1).masks, draw(1).masks)
    assert np.array_equal(draw(1).weights, draw(1).weights)
    assert not np.array_equal(draw(1).masks, draw(2).masks)


@pytest.mark.parametrize("players", [150, 1500])
def test_the_number_of_coalitions_may_exceed_a_float(players: int) -> None:
    coalitions = sample_coalitions(players, 60, rng(0))
    worth = rng(1).normal(size=players)
    got = shapley_values(coalitions, coalitions.masks @ worth)
    assert got.sum() == pytest.approx(worth.sum())
    assert np.isfinite(coalitions.weights).all()
