"""Counts the tokens that an example costs, from its length and the settings alone; no torch."""

from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.evaluation.deletion_curves import perturbed_prompt_count
from prunelake.spec import Explanation, Method

SAMPLES_PER_TOKEN = 3
"""Masks per token of captum's KernelSHAP and LIME, as in the paper."""


def masked_prompt_count(explanation: Explanation, token_count: int, level_count: int) -> int:
    """The masked prompts for one prompt's attributions at all levels, each level counted.

    Prompts that methods share count for each. For `difference_shap` the first stage counts. A
    gradient counts as three prompts, the cost of its forward and backward pass.
    """
    differences = explanation.difference_samples[0] * (level_count - 1)
    samples_per_token: dict[Method, float] = {
        "kernel_shap": SAMPLES_PER_TOKEN * level_count,
        "lime": SAMPLES_PER_TOKEN * level_count,
        "leverage_shap": explanation.leverage_samples * level_count,
        "difference_shap": explanation.unpruned_samples + differences,
    }
    return sum(
        len(explanation.seeds) * int(samples_per_token[method] * token_count)
        if method in samples_per_token
        else 3 * level_count
        for method in explanation.methods
    )


def explanation_token_counts(
    explanation: Explanation, prompt_tokens: int, length: int, level_count: int
) -> dict[str, int]:
    """The tokens of all masked and perturbed prompts that explain one example, by table.

    `length` is the number of tokens of the prompt and all options together. All levels count.
    Levels share work, so that a sweep takes fewer tokens than this count.
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
