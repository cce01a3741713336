"""Predictions -> attributions: which prompt tokens moved the model to its own prediction."""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from captum.attr import KernelShap, Lime
from torch import Tensor

from prunelake.errors import TaskError
from prunelake.evaluation.gradients import input_x_gradient
from prunelake.evaluation.shapley import Coalitions, sample_coalitions, shapley_values
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.schema.run_tables import ATTRIBUTIONS
from prunelake.spec import Explanation, Method
from prunelake.tasks.encoding import EncodedExample

SAMPLES_PER_TOKEN = 3
CAPTUM_METHODS = {"kernel_shap": KernelShap, "lime": Lime}


def compute_attributions(
    model: NestedModel,
    predictions: pl.DataFrame,
    examples: Sequence[EncodedExample],
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
        scored: dict[tuple[str, int, int], FloatArray] = {}
        effects = _MaskedPromptScorer(model, encoded, targets, explanation.baseline_token)
        effects.score_masks(_sampled_masks(encoded, explanation))
        for method in explanation.methods:
            if method in CAPTUM_METHODS:
                for seed in explanation.seeds:
                    own = _captum_attributions(effects, method, seed)
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
        **dict.fromkeys(CAPTUM_METHODS, SAMPLES_PER_TOKEN * count),
        "leverage_shap": int(explanation.leverage_samples * count),
    }
    return sum(
        len(explanation.seeds) * drawn_per_seed[method] if method in drawn_per_seed else 3
        for method in explanation.methods
    )


def random_scores(example_id: str, seed: int, count: int) -> FloatArray:
    """Uniform scores drawn for one example under one seed."""
    return np.random.default_rng([seed, zlib.crc32(example_id.encode())]).random(count)


class _MaskedPromptScorer:
    """What masked prompts of one example do at each level; each mask is asked about once.

    So levels, methods and seeds share the masks that they have in common.
    """

    def __init__(
        self, model: NestedModel, encoded: EncodedExample, targets: Mapping[int, int], baseline: int
    ) -> None:
        self.encoded = encoded
        self.levels = tuple(targets)
        self._model = model
        self._baseline = baseline
        self._options = sorted({*targets.values()})
        self._columns = [self._options.index(target) for target in targets.values()]
        self._answers: dict[bytes, FloatArray] = {}  # mask -> [levels]

    def score_masks(self, masks: Sequence[BoolArray]) -> None:
        """Ask about all that were not asked about yet, together: they share how they begin."""
        missing = {key: m for m in masks if (key := m.tobytes()) not in self._answers}
        for key, found in zip(
            missing, self._model.log_likelihoods([*map(self._query, missing.values())]), strict=True
        ):
            self._answers[key] = found[range(len(self.levels)), self._columns]

    def log_likelihoods(self, masks: BoolArray) -> FloatArray:
        """Log-likelihoods [masks, levels] of each level's target behind the tokens masks keep."""
        self.score_masks([*masks])
        return np.array([self._answers[mask.tobytes()] for mask in masks])

    def _query(self, mask: BoolArray) -> ScoringQuery:
        tokens = np.where(mask, self.encoded.prompt, self._baseline).tolist()
        options = tuple(self.encoded.options[option] for option in self._options)
        return ScoringQuery((*self.encoded.prefix, *tokens), options, self.levels)


def _sampled_masks(encoded: EncodedExample, explanation: Explanation) -> list[BoolArray]:
    """Which tokens the sampling methods keep, under all seeds."""
    masks: list[BoolArray] = []

    def note(asked: Tensor) -> Tensor:
        masks.extend(asked.bool().numpy())
        return torch.zeros(len(asked))

    for seed in explanation.seeds:
        for method in explanation.methods:
            if method in CAPTUM_METHODS:
                _captum_scores(note, method, seed, len(encoded.prompt))
            elif method == "leverage_shap":
                masks += [*_example_coalitions(encoded, seed, explanation.leverage_samples).masks]
    return masks


def _captum_scores(
    effect: Callable[[Tensor], Tensor], method: Method, seed: int, count: int
) -> FloatArray:
    """What LIME or KernelSHAP by captum's own sampling and regression make of `count` tokens."""
    samples = SAMPLES_PER_TOKEN * count
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach GPUs too
        attribution = CAPTUM_METHODS[method](effect).attribute(
            torch.ones(1, count), n_samples=samples, perturbations_per_eval=samples
        )
    scores: FloatArray = attribution[0].double().numpy()
    return scores


def _captum_attributions(
    effects: _MaskedPromptScorer, method: Method, seed: int
) -> dict[int, FloatArray]:
    """LIME or KernelSHAP at each level; under one seed all levels have the same masks."""
    scores = {}
    for n, level in enumerate(effects.levels):

        def effect(masks: Tensor, n: int = n) -> Tensor:
            return torch.tensor(
                effects.log_likelihoods(masks.bool().numpy())[:, n], dtype=torch.float32
            )

        scores[level] = _captum_scores(effect, method, seed, len(effects.encoded.prompt))
    return scores


def _example_coalitions(encoded: EncodedExample, seed: int, samples_per_token: float) -> Coalitions:
    """One draw for all levels.

    Unlike captum's, the masks of a seed differ from example to example, so that over examples
    their noise averages out.
    """
    name = zlib.crc32(encoded.example.example_id.encode())
    own = np.random.default_rng([seed, name, 1])  # 1: not what the random ranking is drawn from
    return sample_coalitions(len(encoded.prompt), int(samples_per_token * len(encoded.prompt)), own)


def _leverage_shap(
    effects: _MaskedPromptScorer, seed: int, samples_per_token: float
) -> dict[int, FloatArray]:
    """Shapley values by leverage-score sampling."""
    coalitions = _example_coalitions(effects.encoded, seed, samples_per_token)
    values = effects.log_likelihoods(coalitions.masks)
    return {
        level: shapley_values(coalitions, values[:, n]) for n, level in enumerate(effects.levels)
    }


def _input_x_gradient(
    model: NestedModel, encoded: EncodedExample, targets: Mapping[int, int]
) -> dict[int, FloatArray]:
    """The gradient method for all levels at once, those of one target in one query."""
    context = (*encoded.prefix, *encoded.prompt)
    by_target = {
        target: tuple(level for level in targets if targets[level] == target)
        for target in sorted({*targets.values()})
    }
    queries = [
        ScoringQuery(context, (encoded.options[target],), levels)
        for target, levels in by_target.items()
    ]
    return {
        level: scores[len(encoded.prefix) :]
        for query, found in zip(queries, input_x_gradient(model, queries), strict=True)
        for level, scores in zip(query.levels, found, strict=True)
    }
