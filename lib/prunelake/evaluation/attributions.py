"""Attributions: how much each prompt token moves the model towards its own prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import polars as pl

from prunelake.errors import TaskError
from prunelake.evaluation.captum_methods import CaptumDraw, draw_masks
from prunelake.evaluation.difference_shap import difference_steps, sample_stages
from prunelake.evaluation.gradients import input_x_gradient
from prunelake.evaluation.masked_prompts import MaskedPromptScorer, MaskRequest, score_together
from prunelake.evaluation.shapley import Coalitions, sample_coalitions, shapley_values
from prunelake.evaluation.token_counts import SAMPLES_PER_TOKEN
from prunelake.explanation_spec import Ranking
from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import FloatArray
from prunelake.schema.run_tables import ATTRIBUTIONS
from prunelake.spec import Explanation
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import example_generator


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
    uniform. Cells that have a row in `known` are left out. The masks of all examples run together;
    `progress` counts their answers.

    Raises:
        TaskError: a prompt has fewer than two tokens.
    """
    predicted = {
        (level, example_id): target
        for level, example_id, target in predictions.select(
            "level", "example_id", "prediction"
        ).iter_rows()
    }
    known_keys = ATTRIBUTIONS.cell_keys(known)
    cases = []
    for encoded in examples:
        example_id = encoded.example.example_id
        if len(encoded.prompt) < 2:
            raise TaskError(
                f"example {example_id} has a prompt of {len(encoded.prompt)} tokens; an "
                "explanation needs at least two: leave the row out"
            )
        targets = {level: predicted[level, example_id] for level in levels}
        missing = {
            (method, seed): own
            for method, seed in explanation.rankings
            if (own := tuple(n for n in levels if (n, example_id, method, seed) not in known_keys))
        }
        scorer = MaskedPromptScorer(model, encoded, targets, explanation.baseline_token)
        cases.append(_Case(encoded, targets, missing, scorer))
    masks = [(case.scorer, _sampled_masks(case, explanation)) for case in cases]
    score_together(model, masks, progress)
    differences = _difference_scores(model, cases, explanation, _unpruned_scores(known))
    gradients = _gradient_scores(model, cases)
    rows = []
    for case in cases:
        example_id = case.encoded.example.example_id
        for (method, seed), own_levels in case.missing.items():
            match method:
                case "kernel_shap" | "lime":
                    by_level = _captum_scores(case, method, seed, own_levels)
                case "leverage_shap":
                    samples = explanation.leverage_samples
                    by_level = _leverage_scores(case, seed, samples, own_levels)
                case "difference_shap":
                    by_level = differences[example_id, seed]
                case "input_x_gradient":
                    by_level = gradients[example_id]
                case "random":
                    ranking = random_scores(example_id, seed, len(case.encoded.prompt))
                    by_level = dict.fromkeys(own_levels, ranking)
                case _:
                    assert_never(method)
            rows += [
                {
                    "run_id": predictions["run_id"][0],
                    "level": level,
                    "example_id": example_id,
                    "method": method,
                    "seed": seed,
                    "target": case.targets[level],
                    "scores": scores.tolist(),
                }
                for level, scores in by_level.items()
            ]
    return ATTRIBUTIONS.frame(rows).sort("level", maintain_order=True)


@dataclass(frozen=True)
class _Case:
    """An example to explain.

    - `targets`: the option that each level predicts, by level.
    - `missing`: the levels that lack scores, by method and seed.
    """

    encoded: EncodedExample
    targets: Mapping[int, int]
    missing: Mapping[tuple[Ranking, int], tuple[int, ...]]
    scorer: MaskedPromptScorer


def _unpruned_scores(known: pl.DataFrame | None) -> dict[tuple[str, int], FloatArray]:
    """The known scores [tokens] of `difference_shap` at level 0, by example and seed."""
    if known is None:
        return {}
    rows = known.filter(level=0, method="difference_shap").select("example_id", "seed", "scores")
    return {(name, seed): np.asarray(scores, float) for name, seed, scores in rows.iter_rows()}


def random_scores(example_id: str, seed: int, token_count: int) -> FloatArray:
    """Uniform scores [tokens] from 0 to 1, drawn for one example under one seed."""
    return example_generator(example_id, seed).random(token_count)


def _sampled_masks(case: _Case, explanation: Explanation) -> list[MaskRequest]:
    """The masks [tokens] that every sampling method uses, and their levels."""
    encoded = case.encoded
    masks: list[MaskRequest] = []
    for (method, seed), levels in case.missing.items():
        match method:
            case "kernel_shap" | "lime":
                drawn = _captum_draw(encoded, method, seed)
                masks.extend((mask, levels) for mask in drawn.masks)
            case "leverage_shap":
                coalitions = _example_coalitions(encoded, seed, explanation.leverage_samples)
                masks.extend((mask, levels) for mask in coalitions.masks)
            case "difference_shap":
                first, *_, last = _difference_stages(encoded, seed, explanation)
                masks.extend((mask, (0, *levels)) for mask in first.masks)
                if 0 in levels:
                    masks.extend((mask, (0,)) for mask in last.masks)
            case "input_x_gradient" | "random":
                pass
            case _:
                assert_never(method)
    return masks


def _captum_draw(encoded: EncodedExample, method: str, seed: int) -> CaptumDraw:
    token_count = len(encoded.prompt)
    return draw_masks(method, seed, token_count, SAMPLES_PER_TOKEN * token_count)


def _captum_scores(
    case: _Case, method: str, seed: int, levels: tuple[int, ...]
) -> dict[int, FloatArray]:
    """The scores [tokens] of LIME or KernelSHAP by level; all levels have the same masks."""
    draw = _captum_draw(case.encoded, method, seed)
    values = case.scorer.target_log_likelihoods(draw.masks, levels)
    return {level: draw.fit(own) for level, own in values.items()}


def _example_coalitions(encoded: EncodedExample, seed: int, samples_per_token: float) -> Coalitions:
    """The coalitions of one example under one seed, equal at all levels.

    Unlike captum's masks they differ between examples, so their noise averages out over examples.
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


def _leverage_scores(
    case: _Case, seed: int, samples_per_token: float, levels: tuple[int, ...]
) -> dict[int, FloatArray]:
    """The scores [tokens] of Leverage SHAP by level."""
    coalitions = _example_coalitions(case.encoded, seed, samples_per_token)
    return {
        level: shapley_values(coalitions, values)
        for level, values in case.scorer.target_log_likelihoods(coalitions.masks, levels).items()
    }


def _difference_scores(
    model: NestedModel,
    cases: Sequence[_Case],
    explanation: Explanation,
    unpruned: Mapping[tuple[str, int], FloatArray],
) -> dict[tuple[str, int], dict[int, FloatArray]]:
    """The scores [tokens] of `difference_shap` by level, of each example and seed.

    The examples ask for the masks of their next stages together.
    """
    running = []
    for case in cases:
        for (method, seed), levels in case.missing.items():
            if method != "difference_shap":
                continue
            key = case.encoded.example.example_id, seed
            options = {level: case.scorer.targets[level] for level in levels}
            known = {case.scorer.targets[0]: unpruned[key]} if key in unpruned else None
            stages = _difference_stages(case.encoded, seed, explanation)
            steps = difference_steps(stages, options, known)
            running.append((key, case.scorer, steps, next(steps)))
    scores = {}
    while running:
        masks = [(scorer, [(m, asked[1]) for m in asked[0]]) for _, scorer, _, asked in running]
        score_together(model, masks)
        waiting, running = running, []
        for key, scorer, steps, asked in waiting:
            try:
                following = steps.send(scorer.log_likelihoods(*asked))
            except StopIteration as finished:
                scores[key] = finished.value
            else:
                running.append((key, scorer, steps, following))
    return scores


def _gradient_scores(
    model: NestedModel, cases: Sequence[_Case]
) -> dict[str, dict[int, FloatArray]]:
    """The scores [tokens] of the gradient by level, of each example.

    Levels of an example with the same target share a query.
    """
    asked: list[tuple[EncodedExample, ScoringQuery]] = []
    for case in cases:
        encoded = case.encoded
        context = (*encoded.prefix, *encoded.prompt)
        levels = case.missing.get(("input_x_gradient", 0), ())
        for target in sorted({case.targets[level] for level in levels}):
            own = tuple(level for level in levels if case.targets[level] == target)
            asked.append((encoded, ScoringQuery(context, (encoded.options[target],), own)))
    scores: dict[str, dict[int, FloatArray]] = {}
    answers = input_x_gradient(model, [query for _, query in asked])
    for (encoded, query), by_level in zip(asked, answers, strict=True):
        scores.setdefault(encoded.example.example_id, {}).update(
            (level, own[len(encoded.prefix) :])
            for level, own in zip(query.levels, by_level, strict=True)
        )
    return scores
