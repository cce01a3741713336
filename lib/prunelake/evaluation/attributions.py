"""Attributions: how much each prompt token moves the model towards its own prediction."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from captum.attr import KernelShap, Lime
from torch import Tensor

from prunelake.errors import TaskError
from prunelake.evaluation.difference_shap import difference_shap, sample_stages
from prunelake.evaluation.gradients import input_x_gradient
from prunelake.evaluation.masked_prompts import MaskedPromptScorer
from prunelake.evaluation.shapley import Coalitions, sample_coalitions, shapley_values
from prunelake.evaluation.token_counts import SAMPLES_PER_TOKEN
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.schema.run_tables import ATTRIBUTIONS
from prunelake.spec import RANDOM_RANKING, Explanation
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import example_generator

CAPTUM_METHODS = {"kernel_shap": KernelShap, "lime": Lime}


def compute_attributions(
    model: NestedModel,
    predictions: pl.DataFrame,
    examples: Sequence[EncodedExample],
    levels: tuple[int, ...],
    explanation: Explanation,
    progress: Progress | None = None,
    known: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The frame of `attributions`: one row for each level, example and ranking, level 0 first.

    A score is the effect of one prompt token, in nats, on the log-likelihood of the option that the
    level itself predicts. The rankings are `explanation.rankings`; the scores of `random` are
    uniform. Cells that have a row in `known` are left out.

    Raises:
        TaskError: a prompt with fewer than two tokens.
    """
    predicted = {
        (level, example_id): target
        for level, example_id, target in predictions.select(
            "level", "example_id", "prediction"
        ).iter_rows()
    }
    known_keys = ATTRIBUTIONS.cell_keys(known)
    known_unpruned = _unpruned_scores(known)
    rows = []
    for done, encoded in enumerate(examples):
        example_id = encoded.example.example_id
        if len(encoded.prompt) < 2:
            raise TaskError(
                f"example {example_id} has a prompt of {len(encoded.prompt)} tokens; explaining "
                "needs two: leave the row out"
            )
        targets = {level: predicted[level, example_id] for level in levels}
        missing = {
            (method, seed): own
            for method, seed in explanation.rankings
            if (own := tuple(n for n in levels if (n, example_id, method, seed) not in known_keys))
        }
        scorer = MaskedPromptScorer(model, encoded, targets, explanation.baseline_token)
        scorer.score_masks(_sampled_masks(encoded, explanation, missing))
        for (method, seed), own_levels in missing.items():
            if method in CAPTUM_METHODS:
                by_level = _captum_attributions(scorer, method, seed, own_levels)
            elif method == "leverage_shap":
                by_level = _leverage_shap(scorer, seed, explanation.leverage_samples, own_levels)
            elif method == "difference_shap":
                stages = _difference_stages(encoded, seed, explanation)
                options = {level: scorer.targets[level] for level in own_levels}
                unpruned = known_unpruned.get((example_id, seed))
                by_option = None if unpruned is None else {scorer.targets[0]: unpruned}
                by_level = difference_shap(stages, scorer.log_likelihoods, options, by_option)
            elif method == RANDOM_RANKING:
                ranking = random_scores(example_id, seed, len(encoded.prompt))
                by_level = dict.fromkeys(own_levels, ranking)
            else:
                by_level = _input_x_gradient(
                    model, encoded, {level: targets[level] for level in own_levels}
                )
            rows += [
                {
                    "run_id": predictions["run_id"][0],
                    "level": level,
                    "example_id": example_id,
                    "method": method,
                    "seed": seed,
                    "target": targets[level],
                    "scores": scores.tolist(),
                }
                for level, scores in by_level.items()
            ]
        if progress:
            progress(done + 1, len(examples))
    return ATTRIBUTIONS.frame(rows).sort("level", maintain_order=True)


def _unpruned_scores(known: pl.DataFrame | None) -> dict[tuple[str, int], FloatArray]:
    """The known scores [tokens] of `difference_shap` at level 0, by example and seed."""
    if known is None:
        return {}
    rows = known.filter(level=0, method="difference_shap").select("example_id", "seed", "scores")
    return {(name, seed): np.asarray(scores, float) for name, seed, scores in rows.iter_rows()}


def random_scores(example_id: str, seed: int, token_count: int) -> FloatArray:
    """Uniform scores [tokens] from 0 to 1, drawn for one example under one seed."""
    return example_generator(example_id, seed).random(token_count)


def _sampled_masks(
    encoded: EncodedExample,
    explanation: Explanation,
    missing: Mapping[tuple[str, int], tuple[int, ...]],
) -> list[tuple[BoolArray, tuple[int, ...]]]:
    """The masks [tokens] that the sampling methods use in any case, and their levels.

    `missing` has the levels that lack scores, by method and seed.
    """
    masks: list[tuple[BoolArray, tuple[int, ...]]] = []
    for (method, seed), levels in missing.items():

        def record(drawn: Tensor, levels: tuple[int, ...] = levels) -> Tensor:
            masks.extend((mask, levels) for mask in drawn.bool().numpy())
            return torch.zeros(len(drawn))

        if method in CAPTUM_METHODS:
            _captum_scores(record, method, seed, len(encoded.prompt))
        elif method == "leverage_shap":
            drawn = _example_coalitions(encoded, seed, explanation.leverage_samples)
            masks.extend((mask, levels) for mask in drawn.masks)
        elif method == "difference_shap":
            first, *_, last = _difference_stages(encoded, seed, explanation)
            masks.extend((mask, (0, *levels)) for mask in first.masks)
            if 0 in levels:
                masks.extend((mask, (0,)) for mask in last.masks)
    return masks


def _captum_scores(
    effect: Callable[[Tensor], Tensor], method: str, seed: int, token_count: int
) -> FloatArray:
    """The scores [tokens] of LIME or KernelSHAP, by captum's own sampling and regression."""
    samples = SAMPLES_PER_TOKEN * token_count
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed GPUs
        attribution = CAPTUM_METHODS[method](effect).attribute(
            torch.ones(1, token_count), n_samples=samples, perturbations_per_eval=samples
        )
    scores: FloatArray = attribution[0].double().numpy()
    return scores


def _captum_attributions(
    scorer: MaskedPromptScorer, method: str, seed: int, levels: tuple[int, ...]
) -> dict[int, FloatArray]:
    """The scores [tokens] of LIME or KernelSHAP by level, from the same masks at all levels."""
    scores = {}
    for level in levels:

        def effect(masks: Tensor, level: int = level) -> Tensor:
            values = scorer.target_log_likelihoods(masks.bool().numpy(), (level,))
            return torch.tensor(values[level], dtype=torch.float32)

        scores[level] = _captum_scores(effect, method, seed, len(scorer.encoded.prompt))
    return scores


def _example_coalitions(encoded: EncodedExample, seed: int, samples_per_token: float) -> Coalitions:
    """The coalitions of one example under one seed, equal at all levels.

    Unlike captum's masks they differ between examples, so that their noise averages out over
    examples.
    """
    token_count = len(encoded.prompt)
    # Stream 1 is independent of the random ranking.
    generator = example_generator(encoded.example.example_id, seed, 1)
    return sample_coalitions(token_count, int(samples_per_token * token_count), generator)


def _difference_stages(
    encoded: EncodedExample, seed: int, explanation: Explanation
) -> list[Coalitions]:
    """The coalitions of one example under one seed for each stage of `difference_shap`."""
    token_count = len(encoded.prompt)
    samples = (*explanation.difference_samples, explanation.unpruned_samples)
    # Stream 2 is independent of the random ranking and of `leverage_shap`.
    generator = example_generator(encoded.example.example_id, seed, 2)
    return sample_stages(token_count, [int(count * token_count) for count in samples], generator)


def _leverage_shap(
    scorer: MaskedPromptScorer, seed: int, samples_per_token: float, levels: tuple[int, ...]
) -> dict[int, FloatArray]:
    """The scores [tokens] of Leverage SHAP by level."""
    coalitions = _example_coalitions(scorer.encoded, seed, samples_per_token)
    return {
        level: shapley_values(coalitions, values)
        for level, values in scorer.target_log_likelihoods(coalitions.masks, levels).items()
    }


def _input_x_gradient(
    model: NestedModel, encoded: EncodedExample, targets: Mapping[int, int]
) -> dict[int, FloatArray]:
    """The scores [tokens] of the gradient by level; levels with one target share a query."""
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
        for query, by_level in zip(queries, input_x_gradient(model, queries), strict=True)
        for level, scores in zip(query.levels, by_level, strict=True)
    }
