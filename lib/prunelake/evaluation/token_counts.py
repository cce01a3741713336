"""Count the tokens that an example costs, from its length and the settings alone; no torch."""

from statistics import fmean
from typing import assert_never

from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.evaluation.deletion_curves import perturbed_prompt_count
from prunelake.explanation_spec import Method
from prunelake.spec import Explanation

SAMPLES_PER_TOKEN = 3
"""Masks per token of captum's KernelSHAP and LIME, as in the paper."""


def masked_prompt_count(explanation: Explanation, token_count: int, level_count: int) -> int:
    """The masked prompts for one prompt's attributions at all levels, each level counted.

    A prompt that several methods share counts for each of them. Levels of `difference_shap` are
    assumed to take the mean of its stages. A gradient counts as three prompts, the cost of its
    forward and backward pass.
    """
    every_level = sum(
        _prompt_count(method, explanation, token_count) for method in explanation.methods
    )
    return level_count * every_level + unpruned_prompt_count(explanation, token_count)


def _prompt_count(method: Method, explanation: Explanation, token_count: int) -> int:
    """The prompts of one method at one level, over all seeds."""
    match method:
        case "kernel_shap" | "lime":
            samples_per_token: float = SAMPLES_PER_TOKEN
        case "leverage_shap":
            samples_per_token = explanation.leverage_samples
        case "difference_shap":
            samples_per_token = fmean(explanation.difference_samples)
        case "input_x_gradient":
            return 3
        case _:
            assert_never(method)
    return len(explanation.seeds) * int(samples_per_token * token_count)


def unpruned_prompt_count(explanation: Explanation, token_count: int) -> int:
    """The masked prompts that `difference_shap` asks level 0 only, for one prompt."""
    if "difference_shap" not in explanation.methods:
        return 0
    samples = explanation.unpruned_samples - fmean(explanation.difference_samples)
    return len(explanation.seeds) * int(samples * token_count)


def explanation_token_counts(
    explanation: Explanation, prompt_tokens: int, length: int, level_count: int
) -> dict[str, int]:
    """The tokens of all masked and perturbed prompts that explain one example, by table.

    `length` is the number of tokens of the prompt and all options together. Each level counts, but
    levels share work, so a sweep takes fewer tokens than this count.
    """
    beam = explanation.bounds_beam
    prompts = {
        "attributions": masked_prompt_count(explanation, prompt_tokens, level_count),
        "deletions": level_count * perturbed_prompt_count(explanation, prompt_tokens),
        "bounds": max_perturbed_prompt_count([prompt_tokens], level_count, beam, explanation)
        if beam
        else 0,
    }
    return {table: count * length for table, count in prompts.items()}
