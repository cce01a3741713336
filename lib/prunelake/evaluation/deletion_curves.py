"""Attributions -> deletion curves: does the prediction depend on the tokens said to matter?"""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.schema.run_tables import DELETIONS
from prunelake.spec import Explanation, Operator

TokenIds = tuple[int, ...]

CurveKind = Literal["comprehensiveness", "sufficiency"]
CURVE_KINDS: tuple[CurveKind, ...] = ("comprehensiveness", "sufficiency")


@dataclass(frozen=True)
class ExplainedPrompt:
    """The players of one example's prompt, and how to ask the model about a changed one.

    `probabilities` takes changed prompts, each with the levels it is needed at, and returns for
    each an array [levels, options] that sums to 1 over the options. `retokenised` gives the ids of
    the text that ids read as.
    """

    example_id: str
    tokens: TokenIds
    probabilities: Callable[[Sequence[tuple[TokenIds, TokenIds]]], Sequence[FloatArray]]
    retokenised: Callable[[Sequence[int]], TokenIds]


def deletion_curves(
    attributions: pl.DataFrame,
    predictions: pl.DataFrame,
    prompts: Sequence[ExplainedPrompt],
    explanation: Explanation,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Rows of `deletions` for the rankings of `attributions`.

    For each fraction the floor(fraction x tokens) tokens of highest signed score are deleted
    (comprehensiveness) or alone kept (sufficiency); a fraction of no token gives no row. Equal
    changed prompts, of whatever level, method or fraction, are asked about once.
    """
    full = {
        (level, name): confidence
        for level, name, confidence in predictions.select(
            "level", "example_id", "confidence"
        ).iter_rows()
    }
    by_example = attributions.partition_by("example_id", as_dict=True)
    rows: list[dict[str, Any]] = []
    for done, prompt in enumerate(prompts):
        rankings = by_example[(prompt.example_id,)]
        rows += _example_curves(rankings, full, prompt, explanation)
        if progress:
            progress(done + 1, len(prompts))
    return DELETIONS.frame(rows).sort("level", maintain_order=True)


def perturbed_prompt_count(explanation: Explanation, count: int) -> int:
    """How many changed prompts the curves of one of `count` tokens need, before any is shared."""
    points = sum(top_count(fraction, count) > 0 for fraction in explanation.fractions)
    rankings = len(explanation.seeds) * (1 + len(explanation.methods))  # 1: the random one
    return rankings * points * len(CURVE_KINDS) * len(explanation.operators)


def perturbed_prompt(
    prompt: ExplainedPrompt, kept: BoolArray, operator: Operator, base: int
) -> TokenIds:
    """The prompt's ids with the tokens that are not `kept` deleted or replaced by `base`.

    `delete_text` reads the remaining tokens as text and tokenises it again, as the paper does.
    """
    if operator == "replace":
        return tuple(np.where(kept, prompt.tokens, base).tolist())
    return prompt.retokenised(np.asarray(prompt.tokens)[kept].tolist())


def top_count(fraction: float, count: int) -> int:
    """How many of `count` tokens a fraction takes, rounded down; none gives no point of a curve."""
    # A product of binary fractions may fall just short of a whole number of tokens.
    return math.floor(fraction * count + 1e-9)


def query_probabilities(
    prompt: ExplainedPrompt, needed: Mapping[TokenIds, Collection[int]]
) -> dict[tuple[TokenIds, int], FloatArray]:
    """Probabilities [options] at each level that a changed prompt is needed at, in one call."""
    questions = [(ids, tuple(sorted(levels))) for ids, levels in needed.items()]
    return {
        (ids, level): answer
        for (ids, levels), answers in zip(questions, prompt.probabilities(questions), strict=True)
        for level, answer in zip(levels, answers, strict=True)
    }


def _example_curves(
    rankings: pl.DataFrame,
    full: Mapping[tuple[int, str], float],
    prompt: ExplainedPrompt,
    explanation: Explanation,
) -> list[dict[str, Any]]:
    count = len(prompt.tokens)
    needed: dict[TokenIds, set[int]] = defaultdict(set)  # changed prompt -> levels
    rows: list[tuple[TokenIds, int, dict[str, Any]]] = []
    for ranking in rankings.iter_rows(named=True):
        # Stable, so that of equal scores the earlier token counts as higher.
        best_first = np.argsort(-np.asarray(ranking["scores"]), kind="stable")
        for fraction in explanation.fractions:
            top = top_count(fraction, count)
            if top == 0:
                continue
            is_top = np.zeros(count, dtype=bool)
            is_top[best_first[:top]] = True
            for kind, kept in zip(CURVE_KINDS, (~is_top, is_top), strict=True):
                for operator in explanation.operators:
                    ids = perturbed_prompt(prompt, kept, operator, explanation.baseline_token)
                    needed[ids].add(ranking["level"])
                    row = {
                        name: ranking[name]
                        for name in ("run_id", "level", "example_id", "method", "seed")
                    } | {
                        "operator": operator,
                        "kind": kind,
                        "fraction": fraction,
                        "top_count": top,
                        "probability_full": full[ranking["level"], prompt.example_id],
                    }
                    rows.append((ids, ranking["target"], row))
    answers = query_probabilities(prompt, needed)
    return [
        row | {"probability_perturbed": answers[ids, row["level"]][target].item()}
        for ids, target, row in rows
    ]
