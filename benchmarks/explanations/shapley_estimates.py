"""Estimates of Shapley values at all levels by several methods, for `shapley.py`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from captum.attr import KernelShap
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.explanations.shapley_games import Floats, Game, Masks
from prunelake.evaluation.difference_shap import difference_shap, sample_stages
from prunelake.evaluation.shapley import sample_coalitions, shapley_values

FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5)

Samples = float | tuple[float, ...]
"""Masks per token; for `difference_shap` first those of level 0, then those of the stages."""
LevelEstimator = Callable[[Game, int, int, int], Floats]  # game, level, masks, seed


def kernel_shap(game: Game, level: int, masks: int, seed: int) -> Floats:
    def answer(asked: Tensor) -> Tensor:
        return torch.tensor(game.values(asked.bool().numpy(), level), dtype=torch.float32)

    torch.manual_seed(seed)
    explained = KernelShap(answer).attribute(
        torch.ones(1, game.players), n_samples=masks, perturbations_per_eval=masks
    )
    return np.asarray(explained[0].double().numpy())


def leverage_shap(game: Game, level: int, masks: int, seed: int) -> Floats:
    coalitions = sample_coalitions(game.players, masks, np.random.default_rng(seed))
    return shapley_values(coalitions, game.values(coalitions.masks, level))


def of_shapiq(name: str, game: Game, level: int, masks: int, seed: int) -> Floats:
    from shapiq import approximator as shapiq  # needs Python 3.12; other methods do not

    # ProxySHAP estimates interactions of any order; those of order 1 are the Shapley values.
    order = {"max_order": 1, "index": "SV"} if name == "ProxySHAP" else {}
    method = getattr(shapiq, name)(n=game.players, random_state=seed, **order)
    found = method.approximate(masks, lambda asked: game.values(asked.astype(bool), level))
    places = (found.interaction_lookup.get((player,)) for player in range(game.players))
    return np.array([0.0 if place is None else found.values[place] for place in places])


LEVEL_ESTIMATORS: dict[str, LevelEstimator] = {
    "kernel_shap": kernel_shap,
    "leverage_shap": leverage_shap,
    "shapiq KernelSHAP": partial(of_shapiq, "KernelSHAP"),
    "shapiq LeverageSHAP": partial(of_shapiq, "LeverageSHAP"),
    "shapiq ProxySHAP": partial(of_shapiq, "ProxySHAP"),
}
METHODS: list[tuple[str, Samples]] = [
    ("kernel_shap", 3),
    ("kernel_shap", 6),
    ("shapiq KernelSHAP", 3),
    ("shapiq KernelSHAP", 6),
    ("shapiq LeverageSHAP", 6),
    ("shapiq ProxySHAP", 3),
    ("shapiq ProxySHAP", 6),
    ("leverage_shap", 3),
    ("leverage_shap", 6),
    ("difference_shap", (1, 0.1)),
    ("difference_shap", (7, 0.5)),
    ("difference_shap", (7, 0.5, 1.5)),
    ("difference_shap", (7, 0.5, 1.5, 3)),
    ("difference_shap", (12, 0.5, 1.5, 3)),
]


def explain(game: Game, name: str, samples: Samples, seed: int) -> tuple[Floats, Floats]:
    """Scores [levels, players] of one method, and the masks per token [levels] that it used."""
    if not isinstance(samples, tuple):
        masks = int(samples * game.players)
        scores = [LEVEL_ESTIMATORS[name](game, level, masks, seed) for level in game.levels]
        return np.array(scores), np.full(len(game.levels), float(samples))
    asked = dict.fromkeys(game.levels, 0)

    def play(masks: Masks, levels: tuple[int, ...]) -> Floats:
        for level in levels:
            asked[level] = max(asked[level], len(masks))
        return game.play(masks, levels)

    unpruned, *stages = (int(count * game.players) for count in samples)
    coalitions = sample_stages(game.players, (*stages, unpruned), np.random.default_rng(seed))
    found = difference_shap(coalitions, play, game.targets)
    used = np.array([asked[level] for level in game.levels]) / game.players
    return np.array([found[level] for level in game.levels]), used


@dataclass(frozen=True)
class Estimates:
    """The results of one method: `scores` [games][seeds, levels, players]."""

    games: Sequence[Game]
    scores: list[Floats]
    masks: Floats
    """The mean number of masks per token [levels] that were used."""

    @classmethod
    def of(cls, games: Sequence[Game], name: str, samples: Samples, seeds: int) -> "Estimates":
        found = [[explain(game, name, samples, seed) for seed in range(seeds)] for game in games]
        masks = np.mean([masks for own in found for _, masks in own], axis=0)
        return cls(games, [np.array([scores for scores, _ in own]) for own in found], masks)

    def errors(self) -> Floats:
        """Squared error [levels] divided by that of equal shares: a geometric mean over games."""
        ratios = [
            ((scores - game.exact) ** 2).sum(-1).mean(0) / game.spread
            for game, scores in zip(self.games, self.scores, strict=True)
        ]
        return np.asarray(np.exp(np.log(ratios).mean(0)))

    def rank_correlations(self) -> Floats:
        """Spearman's correlation [levels] with the exact values, mean over seeds and games."""
        found = [
            [rank_correlation(*pair) for pair in zip(scores, game.exact, strict=True)]
            for game, of_seeds in zip(self.games, self.scores, strict=True)
            for scores in of_seeds
        ]
        return np.asarray(np.mean(found, axis=0))

    def variances_of_change(self) -> Floats:
        """The noise [levels] of the differences between a level's scores and those of level 0.

        It is the variance over seeds, summed over tokens, divided by the spread of the exact scores
        of level 0: a geometric mean over games.
        """
        found = [
            (scores - scores[:, :1]).var(axis=0, ddof=1).sum(-1) / game.spread[0]
            for game, scores in zip(self.games, self.scores, strict=True)
        ]
        return np.asarray(np.exp(np.log(np.array(found)[:, 1:]).mean(0)))

    def comprehensiveness(self) -> Floats:
        """Nats [levels] that each level's own option loses when the highest scores are deleted."""
        found = [
            [deleted(game, level, own) for level, own in zip(game.levels, scores, strict=True)]
            for game, of_seeds in zip(self.games, self.scores, strict=True)
            for scores in of_seeds
        ]
        return np.asarray(np.mean(found, axis=0))


Found = dict[tuple[str, Samples], Estimates]


def estimate(
    games: Sequence[Game], seeds: int, methods: Sequence[tuple[str, Samples]] = tuple(METHODS)
) -> Found:
    return {method: Estimates.of(games, *method, seeds) for method in methods}


def rank_correlation(scores: Floats, exact: Floats) -> float:
    return float(spearmanr(scores, exact).statistic)


def deleted(game: Game, level: int, scores: Floats) -> float:
    """The nats that are lost without the highest scores: a mean over FRACTIONS."""
    order = np.argsort(-scores, kind="stable")
    counts = [int(fraction * game.players + 1e-9) for fraction in FRACTIONS]
    masks = np.ones((1 + len(counts), game.players), dtype=bool)
    for mask, count in zip(masks[1:], counts, strict=True):
        mask[order[:count]] = False
    full, *rest = game.values(masks[[True, *(count > 0 for count in counts)]], level)
    return float(full - np.mean(rest))


def numbers(values: Sequence[float] | Floats, digits: int = 2) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def label(name: str, samples: Samples) -> str:
    """The name and the masks per token: `difference_shap 7; 0.5, 1.5`."""
    if not isinstance(samples, tuple):
        return f"{name} {samples:g}"
    first, *stages = (f"{count:g}" for count in samples)
    return f"{name} {first}; {', '.join(stages)}"


def accuracy_table(found: Found) -> Iterator[str]:
    yield "| method, masks per token | asked | error | rank correlation | noise of change |"
    yield "|---|---|---|---|---|"
    for (name, samples), own in found.items():
        cells = (
            numbers(own.masks, 1),
            numbers(own.errors()),
            numbers(own.rank_correlations()),
            numbers(own.variances_of_change()),
        )
        yield f"| {label(name, samples)} | {' | '.join(cells)} |"
