"""The least and the greatest area over the deletion curve that any ranking of the tokens reaches.

How far a probability can fall at all depends on the model and the example, so areas of two levels
compare only beside what each of them can reach: (area - lower) / (upper - lower), the normalised
AOPC of Edin et al., ACL 2025, https://aclanthology.org/2025.acl-long.86. There are too many
rankings to try them all; as there, a beam search follows the promising ones.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from prunelake.evaluation.deletion_curves import (
    CURVE_KINDS,
    CurveKind,
    ExplainedPrompt,
    TokenIds,
    perturbed_prompt,
    query_probabilities,
    top_count,
)
from prunelake.schema.run_tables import BOUNDS
from prunelake.spec import Explanation, Operator

MAXIMISE, MINIMISE = 1, -1

TokenSet = frozenset[int]
"""Positions of the tokens that a ranking puts first: all deleted, or alone kept."""


def aopc_bounds(
    predictions: pl.DataFrame,
    prompts: Sequence[ExplainedPrompt],
    levels: Sequence[int],
    beam_width: int,
    explanation: Explanation,
    progress: Callable[[int, int], None] | None = None,
) -> pl.DataFrame:
    """Rows of `bounds` for every prompt, level, operator and kind.

    The area is the mean, over the explanation's fractions that take a token, of how far the
    probability of the level's own prediction drops. Both bounds are areas of real rankings, so the
    true ones may lie further out; they are exact where `beam_width` is no less than the number of
    token sets of any one size. A ranking on whose curve a point is no number has no area; where no
    ranking found has one, both bounds are NaN. A prompt too short for any fraction has no row.

    Levels, operators, kinds and both directions search side by side, with one call of
    `Prompt.probabilities` for each size of the sets; `progress` counts these sizes.
    """
    full = {
        (row["level"], row["example_id"]): row
        for row in predictions.select(
            "run_id", "level", "example_id", "prediction", "confidence"
        ).iter_rows(named=True)
    }
    points = [_fraction_counts(len(prompt.tokens), explanation) for prompt in prompts]
    total = sum(max(own, default=0) for own in points)
    done = 0
    rows: list[dict[str, Any]] = []
    for prompt, own in zip(prompts, points, strict=True):
        searches = [
            _BeamSearch(
                level,
                operator,
                kind,
                direction,
                full[level, prompt.example_id]["prediction"],
                full[level, prompt.example_id]["confidence"],
            )
            for level, operator, kind, direction in product(
                levels, explanation.operators, CURVE_KINDS, (MAXIMISE, MINIMISE)
            )
        ]
        for size in range(1, max(own, default=0) + 1):
            answers = _expand_searches(searches, prompt, explanation.baseline_token)
            left = sum(number for larger, number in own.items() if larger > size)
            for search, perturbed in zip(searches, answers, strict=True):
                search.keep_best(perturbed, own[size], left, beam_width)
            done += 1
            if progress:
                progress(done, total)
        drops: dict[tuple[int, Operator, CurveKind], list[float]] = defaultdict(list)
        for search in searches:
            drops[search.level, search.operator, search.kind] += search.summed_drops()
        rows += [
            {
                "run_id": full[level, prompt.example_id]["run_id"],
                "level": level,
                "example_id": prompt.example_id,
                "operator": operator,
                "kind": kind,
                # Over both directions: a narrow beam may end beyond the one that sought that end.
                "lower": min(found, default=math.nan) / own.total(),
                "upper": max(found, default=math.nan) / own.total(),
                "beam_width": beam_width,
            }
            for (level, operator, kind), found in drops.items()
            if own
        ]
    return BOUNDS.frame(rows).sort("level", maintain_order=True)


def max_perturbed_prompt_count(
    token_counts: Sequence[int], level_count: int, beam_width: int, explanation: Explanation
) -> int:
    """At most how many changed prompts `aopc_bounds` asks about, each counted at each level.

    `token_counts` are the numbers of tokens of the prompts.
    """
    searches = (
        level_count * len(explanation.operators) * len(CURVE_KINDS) * len((MAXIMISE, MINIMISE))
    )
    sets = 0
    for count in token_counts:
        for size in range(1, max(_fraction_counts(count, explanation), default=0) + 1):
            sets += min(beam_width * (count - size + 1), math.comb(count, size))
    return searches * sets


@dataclass
class _BeamSearch:
    """The search for one bound: a beam of token sets of one size, grown token by token.

    What comes after a set does not depend on the order that led to it, so a set is one state, with
    the most that any order found has gained so far. Gains are sums of drops over the points of the
    curve, negated on the way down; -inf where a point is no number.
    """

    level: int
    operator: Operator
    kind: CurveKind
    direction: int
    target: int
    full_probability: float
    gains: dict[TokenSet, float] = field(default_factory=lambda: {frozenset(): 0.0})

    def expand(self, count: int) -> None:
        """Put to each set each of the prompt's `count` tokens that it lacks."""
        grown: dict[TokenSet, float] = {}
        for chosen, gain in self.gains.items():
            for token in range(count):
                if token not in chosen:
                    larger = chosen | {token}
                    grown[larger] = max(gain, grown.get(larger, -math.inf))
        self.gains = grown

    def keep_best(
        self, perturbed: Mapping[TokenSet, float], points: int, points_left: int, beam_width: int
    ) -> None:
        """Count each set's own drop for `points` of the curve, and keep the most promising sets.

        Promising is what would gain most if the drop stayed as it is for the `points_left`: by past
        gains alone, all sets between two points would come from the one that led at the first.
        """
        promise: dict[TokenSet, float] = {}
        for chosen, probability in perturbed.items():
            gain = self.direction * (self.full_probability - probability)
            if not math.isfinite(gain):
                gain = -math.inf
            if points:
                self.gains[chosen] += points * gain
            promise[chosen] = self.gains[chosen] + (points_left * gain if points_left else 0)
        best = sorted(promise, key=promise.__getitem__, reverse=True)[:beam_width]
        self.gains = {chosen: self.gains[chosen] for chosen in best}

    def summed_drops(self) -> list[float]:
        """The sums of drops that the rankings found reach."""
        return [self.direction * gain for gain in self.gains.values() if math.isfinite(gain)]


def _fraction_counts(token_count: int, explanation: Explanation) -> Counter[int]:
    """How many fractions take each number of a prompt's tokens."""
    counts = (top_count(fraction, token_count) for fraction in explanation.fractions)
    return Counter(count for count in counts if count)


def _expand_searches(
    searches: Sequence[_BeamSearch], prompt: ExplainedPrompt, baseline_token: int
) -> list[dict[TokenSet, float]]:
    """Grow every search by a token and ask, in one call, about all sets that they reach.

    Returns for each search the probability of its target beside each of its sets.
    """
    changed: dict[tuple[Operator, CurveKind, TokenSet], TokenIds] = {}
    needed: dict[TokenIds, set[int]] = defaultdict(set)
    for search in searches:
        search.expand(len(prompt.tokens))
        for chosen in search.gains:
            key = (search.operator, search.kind, chosen)
            if key not in changed:
                is_chosen = np.zeros(len(prompt.tokens), dtype=bool)
                is_chosen[[*chosen]] = True
                kept = is_chosen if search.kind == "sufficiency" else ~is_chosen
                changed[key] = perturbed_prompt(prompt, kept, search.operator, baseline_token)
            needed[changed[key]].add(search.level)
    answers = query_probabilities(prompt, needed)
    return [
        {
            chosen: answers[ids, search.level][search.target].item()
            for chosen in search.gains
            for ids in (changed[search.operator, search.kind, chosen],)
        }
        for search in searches
    ]
