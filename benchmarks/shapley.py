"""How near KernelSHAP and Leverage SHAP come to exact Shapley values, and what common masks win.

    python benchmarks/shapley.py [--seeds 40]

SmolLM2-135M answers every mask of short prompts at three removal levels; all estimates are then
made from these answers. `kernel_shap` is captum's, as a sweep runs it. Prompts of openbookqa come
from $PRUNELAKE_DATA, from ../shared/data where that is a folder, or from the hub; those on which
the ridge was chosen are left out. For prompts too long to ask for every mask stand drawn games,
whose Shapley values are known. Writes benchmarks/results/shapley.md.
"""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from captum.attr import KernelShap
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from prunelake.evaluation import shapley
from prunelake.evaluation.shapley import sample_coalitions, shapley_values
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.loading import load_model
from prunelake.settings import Settings
from prunelake.spec import Rows, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweep.plan import plan_sweep
from prunelake.tasks.encoding import EncodedExample

LEVELS = (0, 4, 8)
PROMPTS = {"openbookqa": {8: 3, 9: 3, 10: 2, 11: 1}, "everyday_knowledge": {12: 1}}  # by tokens
TUNED_ON = {("openbookqa", f"test:{row}") for row in (1, 6, 8)}
DRAWN, DRAWN_GAMES = (24, 48), 10  # players
TOP = 3
RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).parents[2] / "shared" / "data"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Game:
    """`of(masks, level)` values masks [masks, tokens]; `exact` [levels, tokens], in their order."""

    of: Callable[[NDArray[np.bool_], int], Floats]
    exact: Floats

    @classmethod
    def of_table(cls, values: Floats) -> "Game":
        """A game of [levels, 2^tokens] values, token i present where bit i of the place is set."""
        count = values.shape[1].bit_length() - 1
        every = sample_coalitions(count, 2**count, np.random.default_rng(0))
        exact = [shapley_values(every, own[places(every.masks)]) for own in values]
        return cls(lambda masks, level: np.asarray(values[level, places(masks)]), np.array(exact))

    @classmethod
    def of_terms(cls, count: int, seed: int) -> "Game":
        """A sum of normal terms that 1 to 4 players earn together, and share alike."""
        rng = np.random.default_rng(seed)
        terms = []
        for size, number, scale in ((1, 1, 1), (2, 5, 0.6), (3, 5, 0.6), (4, 5, 0.6)):
            members = [rng.choice(count, size, replace=False) for _ in range(number * count)]
            terms.append((np.array(members), scale * rng.normal(size=number * count)))
        exact = np.zeros((1, count))
        for members_of, earned in terms:
            np.add.at(exact[0], members_of, earned[:, None] / members_of.shape[1])

        def value(masks: NDArray[np.bool_], _: int) -> Floats:
            parts = [masks[:, own].all(axis=-1) @ earned for own, earned in terms]
            return np.asarray(sum(parts))

        return cls(value, exact)


Estimator = Callable[[Game, int, int, int], Floats]  # game, level, masks, seed -> scores


def places(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(masks @ (1 << np.arange(masks.shape[1])))


def play(model: NestedModel, encoded: EncodedExample) -> Game:
    """Ask for every mask; each level explains its own prediction."""
    count = len(encoded.prompt)
    context = (*encoded.prefix, *encoded.prompt)
    (answer,) = model.log_likelihoods([ScoringQuery(context, encoded.options, LEVELS)])
    targets = answer.argmax(axis=1)
    chosen = sorted(set(targets.tolist()))
    options = tuple(encoded.options[option] for option in chosen)
    masks = np.arange(2**count)[:, None] >> np.arange(count) & 1
    queries = [
        ScoringQuery(
            (*encoded.prefix, *np.where(mask, encoded.prompt, 0).tolist()), options, LEVELS
        )
        for mask in masks
    ]
    answers = np.array(model.log_likelihoods(queries))  # [masks, levels, options]
    return Game.of_table(
        np.array([answers[:, n, chosen.index(target)] for n, target in enumerate(targets)])
    )


def kernel_shap(game: Game, level: int, masks: int, seed: int) -> Floats:
    def answer(asked: Tensor) -> Tensor:
        return torch.tensor(game.of(asked.bool().numpy(), level), dtype=torch.float32)

    torch.manual_seed(seed)
    explained = KernelShap(answer).attribute(
        torch.ones(1, game.exact.shape[1]), n_samples=masks, perturbations_per_eval=masks
    )
    return np.asarray(explained[0].double().numpy())


def leverage_shap(game: Game, level: int, masks: int, seed: int) -> Floats:
    coalitions = sample_coalitions(game.exact.shape[1], masks, np.random.default_rng(seed))
    return shapley_values(coalitions, game.of(coalitions.masks, level))


def without_ridge(game: Game, level: int, masks: int, seed: int) -> Floats:
    with patch.object(shapley, "RIDGE", 1e-9):  # of all least squares solutions the shortest
        return leverage_shap(game, level, masks, seed)


METHODS: dict[str, tuple[Estimator, tuple[float, ...]]] = {
    "kernel_shap": (kernel_shap, (1.5, 3, 6)),
    "leverage_shap": (leverage_shap, (1.5, 2, 3, 4, 6)),
    "leverage_shap, no ridge": (without_ridge, (1.5, 2, 3)),
}


class Estimates:
    """Estimates [games][levels, seeds, tokens] of one method with so many masks a token."""

    def __init__(self, games: Sequence[Game], name: str, samples: float, seeds: int) -> None:
        estimator, self.games, self.seeds = METHODS[name][0], games, seeds
        self.of_games = [
            np.array(
                [
                    [
                        estimator(game, level, int(samples * game.exact.shape[1]), seed)
                        for seed in range(seeds)
                    ]
                    for level in range(len(game.exact))
                ]
            )
            for game in games
        ]

    def errors(self) -> Floats:
        """Squared error [games, levels] over the spread of the exact scores, mean over seeds."""
        return np.array(
            [
                ((estimates - game.exact[:, None]) ** 2).sum(-1).mean(-1) / spread(game)
                for game, estimates in zip(self.games, self.of_games, strict=True)
            ]
        )

    def agreement(self, measure: Callable[[Floats, Floats], float]) -> float:
        """Mean over games, levels and seeds of `measure(estimate, exact)`."""
        return float(
            np.mean(
                [
                    measure(estimate, exact)
                    for game, estimates in zip(self.games, self.of_games, strict=True)
                    for exact, of_level in zip(game.exact, estimates, strict=True)
                    for estimate in of_level
                ]
            )
        )

    def delta_variances(self, level: int) -> tuple[Floats, Floats]:
        """Variance over seeds of the scores' difference from level 0 [games], summed over tokens.

        With the same masks at both levels, and with independent ones. In units of the spread of the
        exact scores of level 0.
        """
        common, independent = [], []
        for game, estimates in zip(self.games, self.of_games, strict=True):
            unpruned, pruned = estimates[0], estimates[level]
            scale = spread(game)[0]
            common.append((pruned - unpruned).var(axis=0, ddof=1).sum() / scale)
            # Independent draws: the variance of a difference is the sum of the two.
            parts = [part.var(axis=0, ddof=1).sum() for part in (pruned, unpruned)]
            independent.append(sum(parts) / scale)
        return np.array(common), np.array(independent)


def spread(game: Game) -> Floats:
    """Sum of squares [levels] of the exact scores around their mean: the error of equal shares."""
    return np.asarray(((game.exact - game.exact.mean(-1, keepdims=True)) ** 2).sum(-1))


def rank_correlation(estimate: Floats, exact: Floats) -> float:
    return float(spearmanr(estimate, exact).statistic)


def top_overlap(estimate: Floats, exact: Floats) -> float:
    tops = [set(np.argsort(-scores)[:TOP].tolist()) for scores in (estimate, exact)]
    return len(tops[0] & tops[1]) / TOP


def geometric_mean(values: Floats) -> float:
    return float(np.exp(np.log(values).mean()))


def estimated(games: Sequence[Game], seeds: int) -> dict[tuple[str, float], Estimates]:
    return {
        (name, samples): Estimates(games, name, samples, seeds)
        for name, (_, budgets) in METHODS.items()
        for samples in budgets
    }


def accuracies(found: Mapping[tuple[str, float], Estimates]) -> Iterator[str]:
    yield f"| method | masks a token | error | worst | Spearman | top {TOP} |"
    yield "|---|---:|---:|---:|---:|---:|"
    for (name, samples), estimates in found.items():
        errors = estimates.errors()
        ranks = [estimates.agreement(measure) for measure in (rank_correlation, top_overlap)]
        cells = [f"{x:.2f}" for x in (geometric_mean(errors), errors.max(), *ranks)]
        yield f"| {name} | {samples} | {' | '.join(cells)} |"


def tables(games: Sequence[Game], seeds: int) -> Iterator[str]:
    found = estimated(games, seeds)
    yield from accuracies(found)
    yield ""
    yield "| leverage_shap | kernel_shap | error, ratio | less error in |"
    yield "|---:|---:|---:|---:|"
    for samples, of_other in ((1.5, 1.5), (1.5, 3), (2, 3), (3, 3), (3, 6), (4, 6), (6, 6)):
        ratios = found["leverage_shap", samples].errors() / found["kernel_shap", of_other].errors()
        less = f"{(ratios < 1).sum()} of {ratios.size}"
        yield f"| {samples} | {of_other} | {geometric_mean(ratios):.2f} | {less} |"
    yield ""
    yield "| method | masks a token | level - 0 | common masks | independent masks | ratio |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, samples in (("kernel_shap", 3), ("leverage_shap", 1.5), ("leverage_shap", 3)):
        for level in range(1, len(LEVELS)):
            common, independent = found[name, samples].delta_variances(level)
            parts = (common, independent, common / independent)
            cells = [f"{geometric_mean(part):.2f}" for part in parts]
            yield f"| {name} | {samples} | {LEVELS[level]} | {' | '.join(cells)} |"
    for players in DRAWN:
        yield f"\n{DRAWN_GAMES} drawn games of {players} players:\n"
        drawn_games = [Game.of_terms(players, seed) for seed in range(DRAWN_GAMES)]
        yield from accuracies(estimated(drawn_games, max(2, seeds // 4)))


def games_of_smollm2() -> tuple[list[Game], float]:
    """The games, and the tokens that went through the model for them."""
    settings = Settings()
    if settings.data is None and SHARED.is_dir():
        settings = settings.model_copy(update={"data": SHARED})
    model, games = None, []
    for task, wanted in PROMPTS.items():
        spec = SweepSpec(task=task, rows=Rows(first=60), levels=LEVELS, explain=None)
        work = plan_sweep(spec, settings)
        if model is None:
            loaded = load_model(work.source, spec.dtype).model
            model = NestedModel(
                loaded, removal_order(loaded, spec.strategy, work.calibration_windows).layers
            )
        left = dict(wanted)
        for encoded in work.examples:
            count = len(encoded.prompt)
            if left.get(count) and (task, encoded.example.example_id) not in TUNED_ON:
                left[count] -= 1
                games.append(play(model, encoded))
                print(f"{task} {encoded.example.example_id}: {count} tokens", file=sys.stderr)
        assert not any(left.values()), f"{task} lacks prompts of these lengths: {left}"
    assert model is not None
    return games, model.forward_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    games, forward_tokens = games_of_smollm2()
    lines = [
        f"`python benchmarks/shapley.py`, {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, "
        f"{os.cpu_count()} cores, torch {torch.__version__}, captum {version('captum')}, float32.",
        f"{len(games)} prompts of 8 to 12 tokens at levels {', '.join(map(str, LEVELS))}, all "
        f"masks ({forward_tokens:,.0f} forward tokens), {options.seeds} seeds.",
        "",
        *tables(games, options.seeds),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "shapley.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
