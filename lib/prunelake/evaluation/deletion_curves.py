"""Deletion curves: how far the predicted probability falls when the top tokens are deleted."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import polars as pl

from prunelake.explanation_spec import Operator
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.schema.run_tables import ATTRIBUTIONS, DELETIONS
from prunelake.schema.table import CellKey
from prunelake.spec import Explanation

TokenIds = tuple[int, ...]

PromptRequest = tuple[TokenIds, tuple[int, ...]]
"""A perturbed prompt, and the levels at which it is evaluated."""

Progress = Callable[[int, int], None]

CurveKind = Literal["comprehensiveness", "sufficiency"]
CURVE_KINDS: tuple[CurveKind, ...] = ("comprehensiveness", "sufficiency")


@dataclass(frozen=True)
class ExplainedPrompt:
    """One example's prompt, and the functions that evaluate perturbed versions of it.

    - `tokens`: the ids of the prompt's own tokens, without special tokens.
    - `probabilities`: takes pairs of a perturbed prompt and the levels to evaluate it at; returns
      for each pair an array [levels, options] that sums to 1 over the options.
    - `retokenised`: takes ids; returns the ids of their decoded text.
    """

    example_id: str
    tokens: TokenIds
    probabilities: Callable[[Sequence[tuple[TokenIds, TokenIds]]], Sequence[FloatArray]]
    retokenised: Callable[[Sequence[int]], TokenIds]


AskPrompts = Callable[
    [Sequence[tuple[ExplainedPrompt, PromptRequest]], Progress | None], Sequence[FloatArray]
]
"""Evaluates requests of several prompts together; returns an array [levels, options] for each."""


def deletion_curves(
    attributions: pl.DataFrame,
    predictions: pl.DataFrame,
    prompts: Sequence[ExplainedPrompt],
    explanation: Explanation,
    progress: Callable[[int, int], None] | None = None,
    known: pl.DataFrame | None = None,
    ask: AskPrompts | None = None,
) -> pl.DataFrame:
    """The frame of `deletions`: the curves of all rankings in `attributions`, level 0 first.

    Points that have a row in `known` are left out. `ask` evaluates the perturbed prompts of all
    examples in one call; by default each example is evaluated on its own.

    For each fraction the floor(fraction x tokens) tokens of highest signed score are deleted
    (comprehensiveness), or only they are kept (sufficiency). A fraction that takes no token gives
    no row. Equal perturbed prompts of all levels, methods and fractions are evaluated once.
    """
    full_probability = {
        (level, example_id): confidence
        for level, example_id, confidence in predictions.select(
            "level", "example_id", "confidence"
        ).iter_rows()
    }
    known_keys = DELETIONS.cell_keys(known)
    by_example = attributions.partition_by("example_id", as_dict=True)
    points = []
    requests: list[tuple[ExplainedPrompt, PromptRequest]] = []
    for prompt in prompts:
        rankings = by_example[(prompt.example_id,)]
        own = _curve_points(rankings, full_probability, prompt, explanation, known_keys)
        needed: dict[TokenIds, set[int]] = defaultdict(set)  # perturbed prompt -> levels
        for ids, _, row in own:
            needed[ids].add(row["level"])
        points += own
        requests += [(prompt, (ids, tuple(sorted(levels)))) for ids, levels in needed.items()]
    answers = (ask or _ask_one_by_one)(requests, progress)
    probabilities = {
        (prompt.example_id, ids, level): own
        for (prompt, (ids, levels)), by_level in zip(requests, answers, strict=True)
        for level, own in zip(levels, by_level, strict=True)
    }
    rows = []
    for ids, target, row in points:
        own = probabilities[row["example_id"], ids, row["level"]]
        rows.append(row | {"probability_perturbed": own[target].item()})
    return DELETIONS.frame(rows).sort("level", maintain_order=True)


def perturbed_prompt_count(explanation: Explanation, token_count: int) -> int:
    """The number of perturbed prompts for one prompt's curves; equal prompts count repeatedly."""
    points = sum(top_count(fraction, token_count) > 0 for fraction in explanation.fractions)
    return len(explanation.rankings) * points * len(CURVE_KINDS) * len(explanation.operators)


def perturbed_prompt(
    prompt: ExplainedPrompt, kept: BoolArray, operator: Operator, baseline_token: int
) -> TokenIds:
    """The prompt's ids without the tokens that the mask `kept` [tokens] excludes.

    The operator `replace` puts `baseline_token` in their place. `delete_text` decodes the remaining
    tokens and tokenises their text again, as in the paper.
    """
    if operator == "replace":
        return tuple(np.where(kept, prompt.tokens, baseline_token).tolist())
    return prompt.retokenised(np.asarray(prompt.tokens)[kept].tolist())


def top_count(fraction: float, token_count: int) -> int:
    """floor(fraction x token_count): the number of top tokens at one point of a curve."""
    # A product of binary fractions may fall just short of a whole number of tokens.
    return math.floor(fraction * token_count + 1e-9)


def query_probabilities(
    prompt: ExplainedPrompt, needed: Mapping[TokenIds, Collection[int]]
) -> dict[tuple[TokenIds, int], FloatArray]:
    """The probabilities [options] of each perturbed prompt at its levels, from a single call.

    `needed` maps a perturbed prompt to the levels at which to evaluate it. The keys of the result
    are pairs of a perturbed prompt and a level.
    """
    requests = [(ids, tuple(sorted(levels))) for ids, levels in needed.items()]
    return {
        (ids, level): probabilities
        for (ids, levels), by_level in zip(requests, prompt.probabilities(requests), strict=True)
        for level, probabilities in zip(levels, by_level, strict=True)
    }


def _ask_one_by_one(
    requests: Sequence[tuple[ExplainedPrompt, PromptRequest]], progress: Progress | None
) -> list[FloatArray]:
    """The probabilities [levels, options] of each request, from a call for each example."""
    answers: list[FloatArray] = []
    for _, group in groupby(requests, lambda request: request[0].example_id):
        own = [*group]
        answers += own[0][0].probabilities([asked for _, asked in own])
        if progress:
            progress(len(answers), len(requests))
    return answers


def _curve_points(
    rankings: pl.DataFrame,
    full_probability: Mapping[tuple[int, str], float],
    prompt: ExplainedPrompt,
    explanation: Explanation,
    known: Collection[CellKey],
) -> list[tuple[TokenIds, int, dict[str, Any]]]:
    """The perturbed prompt, the target and the row of each point, without its probability."""
    count = len(prompt.tokens)
    rows: list[tuple[TokenIds, int, dict[str, Any]]] = []
    for ranking in rankings.iter_rows(named=True):
        ranking_key = tuple(ranking[name] for name in ATTRIBUTIONS.key[1:])
        # A stable sort ranks the earlier of two tokens with equal scores higher.
        best_first = np.argsort(-np.asarray(ranking["scores"]), kind="stable")
        for fraction in explanation.fractions:
            top = top_count(fraction, count)
            if top == 0:
                continue
            is_top = np.zeros(count, dtype=bool)
            is_top[best_first[:top]] = True
            for kind, kept in zip(CURVE_KINDS, (~is_top, is_top), strict=True):
                for operator in explanation.operators:
                    if (*ranking_key, operator, kind, fraction) in known:
                        continue
                    ids = perturbed_prompt(prompt, kept, operator, explanation.baseline_token)
                    row = {name: ranking[name] for name in ATTRIBUTIONS.key} | {
                        "operator": operator,
                        "kind": kind,
                        "fraction": fraction,
                        "top_count": top,
                        "probability_full": full_probability[ranking["level"], prompt.example_id],
                    }
                    rows.append((ids, ranking["target"], row))
    return rows
