from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunelake.evaluation.difference_shap import MAX_SLOPE, difference_shap, sample_stages
from prunelake.evaluation.shapley import sample_coalitions, shapley_values
from tests.evaluation.test_shapley import estimated, exact, places, random_game, rng

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]
SEEDS = st.integers(0, 2**32 - 1)


class Games:
    """Games with values [levels, options, 2^players], and the coalitions asked of each level."""

    def __init__(self, values: Floats) -> None:
        self.values = values
        self.players = values.shape[-1].bit_length() - 1
        self.asked: dict[int, set[int]] = {}

    def score(self, masks: Masks, levels: tuple[int, ...]) -> Floats:
        for level in levels:
            self.asked.setdefault(level, set()).update(places(masks).tolist())
        return np.moveaxis(self.values[list(levels)][..., places(masks)], -1, 0)

    def explain(
        self, counts: tuple[int, ...], targets: dict[int, int], seed: int = 0
    ) -> list[Floats]:
        stages = sample_stages(self.players, counts, rng(seed))
        return [*difference_shap(stages, self.score, targets).values()]


def similar_games(players: int, noise: float, seed: int = 0) -> Games:
    """Two levels: the game of level 1 is 0.8 times the game of level 0, plus noise."""
    unpruned = random_game(players, seed)
    pruned = 0.8 * unpruned + noise * random_game(players, seed + 1)
    return Games(np.array([[unpruned], [pruned]]))


@given(st.integers(2, 7), st.lists(st.integers(0, 1), min_size=3, max_size=3), SEEDS)
def test_all_coalitions_give_the_shapley_values_of_each_level_and_its_option(
    players: int, options: list[int], seed: int
) -> None:
    games = Games(rng(seed).normal(size=(3, 2, 2**players)))
    every = 2**players
    got = games.explain((every, every), dict(enumerate(options)), seed)
    for level, option in enumerate(options):
        np.testing.assert_allclose(got[level], exact(games.values[level, option]), atol=1e-9)


@given(st.integers(2, 9), st.lists(st.integers(0, 300), min_size=1, max_size=4), SEEDS)
def test_each_stage_has_the_coalitions_of_the_stage_before(
    players: int, counts: list[int], seed: int
) -> None:
    counts.sort()
    stages = sample_stages(players, counts, rng(seed))
    members = [set(places(stage.masks).tolist()) for stage in stages]
    assert [len(own) for own in members] == [
        min(max(count // 2 * 2, 4), 2**players) for count in counts
    ]
    assert all(one <= other for one, other in pairwise(members))


@given(st.integers(3, 8), st.floats(0.1, MAX_SLOPE), SEEDS)
def test_a_multiple_of_the_unpruned_game_needs_the_first_stage_only(
    players: int, factor: float, seed: int
) -> None:
    unpruned = random_game(players, seed)
    games = Games(np.array([[unpruned], [factor * unpruned + 3]]))
    first, second = games.explain((4, 8, 30), {0: 0, 1: 0}, seed)
    np.testing.assert_allclose(second, factor * first, atol=1e-9)
    assert len(games.asked[1]) == 4
    assert len(games.asked[0]) == min(30, 2**players)


@pytest.mark.parametrize(("noise", "stages"), [(0.01, 1), (3, 3)])
def test_a_level_that_differs_takes_all_stages_but_the_last(noise: float, stages: int) -> None:
    games = similar_games(8, noise)
    games.explain((12, 24, 48, 200), {0: 0, 1: 0})
    assert len(games.asked[1]) == (12, 24, 48)[stages - 1]
    assert games.asked[1] < games.asked[0]


def test_scores_depend_on_no_other_level_but_the_unpruned_one() -> None:
    games = Games(rng(4).normal(size=(4, 2, 2**6)))
    targets = {0: 0, 1: 1, 2: 0, 3: 1}
    together = games.explain((6, 12, 40), targets)
    for level, target in targets.items():
        (alone,) = games.explain((6, 12, 40), {level: target})
        np.testing.assert_array_equal(together[level], alone)


@given(st.integers(2, 8), SEEDS)
def test_scores_sum_to_the_gain_of_the_full_coalition(players: int, seed: int) -> None:
    games = similar_games(players, 1, seed)
    for scores, (values,) in zip(
        games.explain((6, 20), {0: 0, 1: 0}, seed), games.values, strict=True
    ):
        assert scores.sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


@pytest.mark.parametrize("constant", ["reference", "own", "both"])
def test_a_constant_game_is_no_error(constant: str) -> None:
    games = similar_games(6, 0.1)
    if constant != "own":
        games.values[0] = 2
    if constant != "reference":
        games.values[1] = 2
    got = games.explain((64, 64), {1: 0})
    np.testing.assert_allclose(got[0], exact(games.values[1, 0]), atol=1e-9)


def test_few_coalitions_of_a_similar_game_give_the_error_of_many() -> None:
    """8 coalitions at level 1 and 60 at level 0, compared with 60 at level 1 itself."""
    every = sample_coalitions(10, 2**10, rng(0))
    errors: dict[str, list[float]] = {"difference": [], "60": [], "8": []}
    for seed in range(40):
        additive = every.masks @ rng(seed).normal(size=10)
        unpruned = np.zeros(2**10)
        unpruned[places(every.masks)] = additive + 0.3 * random_game(10, seed)
        games = Games(np.array([[unpruned], [0.8 * unpruned + 0.03 * random_game(10, seed + 99)]]))
        game = games.values[1, 0]
        wanted = shapley_values(every, game[places(every.masks)])
        found = {
            "difference": games.explain((8, 60), {0: 0, 1: 0}, seed)[1],
            "60": estimated(game, 60, seed),
            "8": estimated(game, 8, seed),
        }
        for name, scores in found.items():
            errors[name].append(float(((scores - wanted) ** 2).sum()))
    means = {name: np.mean(values) for name, values in errors.items()}
    assert means["difference"] < 1.2 * means["60"] < 0.2 * means["8"]
