"""Predictions -> attributions: which prompt tokens moved the model to its own prediction."""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from captum.attr import KernelShap, Lime
from numpy.typing import NDArray
from torch import Tensor

from prunelake.errors import TaskError
from prunelake.evaluation.gradients import input_x_gradient
from prunelake.evaluation.shapley import Coalitions, drawn, shapley_values
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import Query
from prunelake.schema.run_tables import ATTRIBUTIONS
from prunelake.spec import Explanation, Method
from prunelake.tasks.encoding import Encoded

SAMPLES_PER_TOKEN = 3
SAMPLING = {"kernel_shap": KernelShap, "lime": Lime}

Scores = NDArray[np.float64]


def attribute(
    model: NestedModel,
    predictions: pl.DataFrame,
    examples: Sequence[Encoded],
    levels: tuple[int, ...],
    explanation: Explanation,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Rows of `attributions` for every level, example, method and seed.

    A score is the effect of one prompt token, in nats, on the log-likelihood of the option that the
    level itself predicted. Beside the methods stands `random`: seeded uniform scores, equal at all
    levels, whose deletion curves are what an explanation must beat.

    Raises:
        TaskError: a prompt of fewer than two tokens, between which there is nothing to share out.
    """
    run_id = predictions["run_id"][0]
    chosen = {
        (level, example_id): target
        for level, example_id, target in predictions.select(
            "level", "example_id", "prediction"
        ).iter_rows()
    }
    rows = []
    for done, encoded in enumerate(examples):
        name = encoded.example.example_id
        if len(encoded.prompt) < 2:
            raise TaskError(
                f"example {name} has a prompt of {len(encoded.prompt)} tokens; explaining needs two"
            )
        targets = {level: chosen[level, name] for level in levels}
        scored: dict[tuple[str, int, int], Scores] = {}
        effects = _Effects(model, encoded, targets, explanation.baseline_token)
        effects.ask(_masks(encoded, explanation))
        for method in explanation.methods:
            if method in SAMPLING:
                for seed in explanation.seeds:
                    own = _sampled(effects, method, seed)
                    scored |= {(method, seed, level): scores for level, scores in own.items()}
            elif method == "leverage_shap":
                for seed in explanation.seeds:
                    own = _leverage_shap(effects, seed, explanation.leverage_samples)
                    scored |= {(method, seed, level): scores for level, scores in own.items()}
            else:
                own = _input_x_gradient(model, encoded, targets)
                scored |= {(method, 0, level): scores for level, scores in own.items()}
        for seed in explanation.seeds:
            ranking = random_scores(name, seed, len(encoded.prompt))
            scored |= {("random", seed, level): ranking for level in levels}
        rows += [
            {
                "run_id": run_id,
                "level": level,
                "example_id": name,
                "method": method,
                "seed": seed,
                "target": targets[level],
                "scores": scores.tolist(),
            }
            for (method, seed, level), scores in scored.items()
        ]
        if progress:
            progress(done + 1, len(examples))
    return ATTRIBUTIONS.frame(rows).sort("level", maintain_order=True)


def masked_prompt_count(explanation: Explanation, count: int) -> int:
    """How many masked prompts explaining one of `count` tokens asks about, before any is shared.

    A gradient counts as the three passes that its backward pass costs.
    """
    drawn_per_seed = {
        **dict.fromkeys(SAMPLING, SAMPLES_PER_TOKEN * count),
        "leverage_shap": int(explanation.leverage_samples * count),
    }
    return sum(
        len(explanation.seeds) * drawn_per_seed[method] if method in drawn_per_seed else 3
        for method in explanation.methods
    )


def random_scores(example_id: str, seed: int, count: int) -> Scores:
    """Uniform scores drawn for one example under one seed."""
    return np.random.default_rng([seed, zlib.crc32(example_id.encode())]).random(count)


class _Effects:
    """What masked prompts of one example do at each level; each mask is asked about once.

    So levels, methods and seeds share the masks that they have in common.
    """

    def __init__(
        self, model: NestedModel, encoded: Encoded, targets: Mapping[int, int], baseline: int
    ) -> None:
        self.encoded = encoded
        self.levels = tuple(targets)
        self._model = model
        self._baseline = baseline
        self._options = sorted({*targets.values()})
        self._columns = [self._options.index(target) for target in targets.values()]
        self._answers: dict[bytes, Scores] = {}  # mask -> [levels]

    def ask(self, masks: Sequence[NDArray[np.bool_]]) -> None:
        """Ask about all that were not asked about yet, together: they share how they begin."""
        missing = {key: m for m in masks if (key := m.tobytes()) not in self._answers}
        for key, found in zip(
            missing, self._model.log_likelihoods([*map(self._query, missing.values())]), strict=True
        ):
            self._answers[key] = found[range(len(self.levels)), self._columns]

    def of(self, masks: NDArray[np.bool_]) -> Scores:
        """Log-likelihoods [masks, levels] of each level's target behind the tokens masks keep."""
        self.ask([*masks])
        return np.array([self._answers[mask.tobytes()] for mask in masks])

    def _query(self, mask: NDArray[np.bool_]) -> Query:
        tokens = np.where(mask, self.encoded.prompt, self._baseline).tolist()
        options = tuple(self.encoded.options[option] for option in self._options)
        return Query((*self.encoded.prefix, *tokens), options, self.levels)


def _masks(encoded: Encoded, explanation: Explanation) -> list[NDArray[np.bool_]]:
    """Which tokens the sampling methods keep, under all seeds."""
    masks: list[NDArray[np.bool_]] = []

    def note(asked: Tensor) -> Tensor:
        masks.extend(asked.bool().numpy())
        return torch.zeros(len(asked))

    for seed in explanation.seeds:
        for method in explanation.methods:
            if method in SAMPLING:
                _by_captum(note, method, seed, len(encoded.prompt))
            elif method == "leverage_shap":
                masks += [*_coalitions(encoded, seed, explanation.leverage_samples).masks]
    return masks


def _by_captum(effect: Callable[[Tensor], Tensor], method: Method, seed: int, count: int) -> Scores:
    """What LIME or KernelSHAP by captum's own sampling and regression make of `count` tokens."""
    samples = SAMPLES_PER_TOKEN * count
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach GPUs too
        attribution = SAMPLING[method](effect).attribute(
            torch.ones(1, count), n_samples=samples, perturbations_per_eval=samples
        )
    scores: Scores = attribution[0].double().numpy()
    return scores


def _sampled(effects: _Effects, method: Method, seed: int) -> dict[int, Scores]:
    """LIME or KernelSHAP at each level; under one seed all levels have the same masks."""
    scores = {}
    for n, level in enumerate(effects.levels):

        def effect(masks: Tensor, n: int = n) -> Tensor:
            return torch.tensor(effects.of(masks.bool().numpy())[:, n], dtype=torch.float32)

        scores[level] = _by_captum(effect, method, seed, len(effects.encoded.prompt))
    return scores


def _coalitions(encoded: Encoded, seed: int, samples_per_token: float) -> Coalitions:
    """One draw for all levels.

    Unlike captum's, the masks of a seed differ from example to example, so that over examples
    their noise averages out.
    """
    name = zlib.crc32(encoded.example.example_id.encode())
    own = np.random.default_rng([seed, name, 1])  # 1: not what the random ranking is drawn from
    return drawn(len(encoded.prompt), int(samples_per_token * len(encoded.prompt)), own)


def _leverage_shap(effects: _Effects, seed: int, samples_per_token: float) -> dict[int, Scores]:
    """Shapley values by leverage-score sampling."""
    coalitions = _coalitions(effects.encoded, seed, samples_per_token)
    values = effects.of(coalitions.masks)
    return {
        level: shapley_values(coalitions, values[:, n]) for n, level in enumerate(effects.levels)
    }


def _input_x_gradient(
    model: NestedModel, encoded: Encoded, targets: Mapping[int, int]
) -> dict[int, Scores]:
    """The gradient method for all levels at once, those of one target in one query."""
    context = (*encoded.prefix, *encoded.prompt)
    by_target = {
        target: tuple(level for level in targets if targets[level] == target)
        for target in sorted({*targets.values()})
    }
    queries = [
        Query(context, (encoded.options[target],), levels) for target, levels in by_target.items()
    ]
    return {
        level: scores[len(encoded.prefix) :]
        for query, found in zip(queries, input_x_gradient(model, queries), strict=True)
        for level, scores in zip(query.levels, found, strict=True)
    }
