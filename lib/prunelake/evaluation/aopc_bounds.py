"""Bounds of the AOPC: the least and the greatest value that a search finds for any token ranking.

The model and the example limit how far a probability can fall, so the AOPC of two levels can only
be compared relative to their bounds: (AOPC - lower) / (upper - lower), the normalised AOPC of Edin
et al., ACL 2025, https://aclanthology.org/2025.acl-long.86. There are too many rankings to try all;
as in that paper, a beam search follows the most promising rankings.
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
from prunelake.explanation_spec import Operator
from prunelake.schema.run_tables import BOUNDS
from prunelake.spec import Explanation

MAXIMISE, MINIMISE = 1, -1

TokenSet = frozenset[int]
"""The positions of the top tokens of a ranking, which are deleted or are the only kept tokens."""


def aopc_bounds(
    predictions: pl.DataFrame,
    prompts: Sequence[ExplainedPrompt],
    levels: Sequence[int],
    beam_width: int,
    explanation: Explanation,
    progress: Callable[[int, int], None] | None = None,
    known: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The frame of `bounds`: one row for each level, prompt, operator and kind, level 0 first.

    Bounds that have a row in `known` are left out.

    The AOPC is the mean drop of the probability of the level's own prediction, over the fractions
    of the explanation that take at least one token. Both bounds are values of real rankings, so the
    true bounds may lie outside. They are exact if `beam_width` is at least the number of token
    sets of every size. A ranking with a NaN on its curve has no AOPC; if no ranking has one, both
    bounds are NaN. A prompt that is too short for every fraction has no row.

    The searches of all levels, operators, kinds and directions share one call of
    `ExplainedPrompt.probabilities` for each size of the token sets. `progress` receives the number
    of finished sizes and their total.
    """
    known_keys = BOUNDS.cell_keys(known)
    predicted = {
        (row["level"], row["example_id"]): row
        for row in predictions.select(
            "run_id", "level", "example_id", "prediction", "confidence"
        ).iter_rows(named=True)
    }
    fraction_counts = [_fraction_counts(len(prompt.tokens), explanation) for prompt in prompts]
    total = sum(max(counts, default=0) for counts in fraction_counts)
    done = 0
    rows: list[dict[str, Any]] = []
    for prompt, counts in zip(prompts, fraction_counts, strict=True):
        searches = [
            _BeamSearch(
                level,
                operator,
                kind,
                direction,
                predicted[level, prompt.example_id]["prediction"],
                predicted[level, prompt.example_id]["confidence"],
            )
            for level, operator, kind, direction in product(
                levels, explanation.operators, CURVE_KINDS, (MAXIMISE, MINIMISE)
            )
            if (level, prompt.example_id, operator, kind) not in known_keys
        ]
        for size in range(1, max(counts, default=0) + 1):
            perturbed = _expand_searches(searches, prompt, explanation.baseline_token)
            points_left = sum(number for larger, number in counts.items() if larger > size)
            for search, probabilities in zip(searches, perturbed, strict=True):
                search.keep_best(probabilities, counts[size], points_left, beam_width)
            done += 1
            if progress:
                progress(done, total)
        drops: dict[tuple[int, Operator, CurveKind], list[float]] = defaultdict(list)
        for search in searches:
            drops[search.level, search.operator, search.kind] += search.summed_drops()
        rows += [
            {
                "run_id": predicted[level, prompt.example_id]["run_id"],
                "level": level,
                "example_id": prompt.example_id,
                "operator": operator,
                "kind": kind,
                # Both searches count for both bounds: a narrow beam may miss the bound that it
                # searches for.
                "lower": min(sums, default=math.nan) / counts.total(),
                "upper": max(sums, default=math.nan) / counts.total(),
                "beam_width": beam_width,
            }
            for (level, operator, kind), sums in drops.items()
            if counts
        ]
    return BOUNDS.frame(rows).sort("level", maintain_order=True)


def bounds_count(explanation: Explanation, token_count: int) -> int:
    """The number of bounds of a prompt at one level; 0 if it is too short for every fraction."""
    if not _fraction_counts(token_count, explanation) or explanation.bounds_beam is None:
        return 0
    return len(explanation.operators) * len(CURVE_KINDS)


def max_perturbed_prompt_count(
    token_counts: Sequence[int], level_count: int, beam_width: int, explanation: Explanation
) -> int:
    """The largest number of perturbed prompts that `aopc_bounds` may evaluate, over all levels.

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
    """The search for one bound: a beam of token sets of equal size that grows token by token.

    The continuation of a set does not depend on the order of its tokens, so a set is one state. Its
    gain is the greatest that any order has reached so far: the sum of the drops over the points of
    the curve, negated when minimising, and -inf if a point is NaN.
    """

    level: int
    operator: Operator
    kind: CurveKind
    direction: int
    target: int
    full_probability: float
    gains: dict[TokenSet, float] = field(default_factory=lambda: {frozenset(): 0.0})

    def expand(self, count: int) -> None:
        """Extend each set by each of the prompt's `count` tokens that it lacks."""
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
        """Add each set's drop for `points` points of the curve, and keep the most promising sets.

        The most promising sets would gain most if their drop stayed the same for the `points_left`
        later points. Ranked by past gains alone, all sets between two points of the curve would
        descend from the best set at the first of them.
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
        """The sums of drops of the rankings that the search found."""
        return [self.direction * gain for gain in self.gains.values() if math.isfinite(gain)]


def _fraction_counts(token_count: int, explanation: Explanation) -> Counter[int]:
    """The number of fractions by their number of top tokens; without fractions that take none."""
    counts = (top_count(fraction, token_count) for fraction in explanation.fractions)
    return Counter(count for count in counts if count)


def _expand_searches(
    searches: Sequence[_BeamSearch], prompt: ExplainedPrompt, baseline_token: int
) -> list[dict[TokenSet, float]]:
    """Extend every search by one token and evaluate all their sets in one call.

    Returns, for each search, the probability of its target under each of its sets.
    """
    perturbed: dict[tuple[Operator, CurveKind, TokenSet], TokenIds] = {}
    needed: dict[TokenIds, set[int]] = defaultdict(set)
    for search in searches:
        search.expand(len(prompt.tokens))
        for chosen in search.gains:
            key = (search.operator, search.kind, chosen)
            if key not in perturbed:
                is_chosen = np.zeros(len(prompt.tokens), dtype=bool)
                is_chosen[[*chosen]] = True
                kept = is_chosen if search.kind == "sufficiency" else ~is_chosen
                perturbed[key] = perturbed_prompt(prompt, kept, search.operator, baseline_token)
            needed[perturbed[key]].add(search.level)
    probabilities = query_probabilities(prompt, needed)
    return [
        {
            chosen: probabilities[ids, search.level][search.target].item()
            for chosen in search.gains
            for ids in (perturbed[search.operator, search.kind, chosen],)
        }
        for search in searches
    ]
