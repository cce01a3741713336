"""Counts the tokens that an example costs, from its length and the settings alone; no torch."""

from prunelake.evaluation.aopc_bounds import max_perturbed_prompt_count
from prunelake.evaluation.deletion_curves import perturbed_prompt_count
from prunelake.spec import Explanation, Method

SAMPLES_PER_TOKEN = 3
"""Masks per token of captum's KernelSHAP and LIME, as in the paper."""


def masked_prompt_count(explanation: Explanation, token_count: int) -> int:
    """The number of masked prompts for one prompt's attributions, before equal ones are shared.

    A gradient counts as three prompts, the cost of its forward and backward pass.
    """
    drawn_per_seed: dict[Method, int] = {
        "kernel_shap": SAMPLES_PER_TOKEN * token_count,
        "lime": SAMPLES_PER_TOKEN * token_count,
        "leverage_shap": int(explanation.leverage_samples * token_count),
    }
    return sum(
        len(explanation.seeds) * drawn_per_seed[method] if method in drawn_per_seed else 3
        for method in explanation.methods
    )


def explanation_token_count(explanation: Explanation, prompt_tokens: int, length: int) -> int:
    """The tokens of all masked and perturbed prompts that explain one example at one level.

    `length` is the number of tokens of the prompt and all options together. Levels share work, so
    that a sweep takes fewer tokens than levels x this count.
    """
    prompts = masked_prompt_count(explanation, prompt_tokens)
    prompts += perturbed_prompt_count(explanation, prompt_tokens)
    if beam := explanation.bounds_beam:
        prompts += max_perturbed_prompt_count([prompt_tokens], 1, beam, explanation)
    return prompts * length
