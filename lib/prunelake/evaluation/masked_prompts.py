"""Log-likelihoods of masked prompts: the games that attributions by sampling explain."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from prunelake.inference.nested import NestedModel, Progress
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import BoolArray, FloatArray
from prunelake.tasks.encoding import EncodedExample

MaskRequest = tuple[BoolArray, Collection[int]]
"""A mask [tokens], and the levels at which it is evaluated."""


class MaskedPromptScorer:
    """Evaluates masked prompts of one example, each mask once at each level.

    Levels, methods and seeds therefore share their common masks.

    Args:
        targets: the explained option of each level, by level.
        baseline_token: the token that replaces a masked one.
    """

    def __init__(
        self,
        model: NestedModel,
        encoded: EncodedExample,
        targets: Mapping[int, int],
        baseline_token: int,
    ) -> None:
        self.encoded = encoded
        self._model = model
        self._baseline_token = baseline_token
        self._options = sorted({*targets.values()})
        self.targets = {level: self._options.index(target) for level, target in targets.items()}
        """The index of each level's target in the last axis of `log_likelihoods`."""
        self._known: dict[tuple[bytes, int], FloatArray] = {}  # mask, level -> [options]

    def missing_queries(self, requests: Iterable[MaskRequest]) -> dict[bytes, ScoringQuery]:
        """The queries of masks that still lack some of their levels, by mask."""
        masks: dict[bytes, BoolArray] = {}
        missing: dict[bytes, set[int]] = {}
        for mask, levels in requests:
            key = mask.tobytes()
            if new := {level for level in levels if (key, level) not in self._known}:
                masks[key] = mask
                missing.setdefault(key, set()).update(new)
        return {key: self._query(masks[key], levels) for key, levels in missing.items()}

    def learn(self, key: bytes, query: ScoringQuery, values: FloatArray) -> None:
        """Keep the answer [levels, options] to a query of `missing_queries`."""
        self._known |= {(key, level): own for level, own in zip(query.levels, values, strict=True)}

    def log_likelihoods(self, masks: BoolArray, levels: tuple[int, ...]) -> FloatArray:
        """Log-likelihoods [masks, levels, options] of all targets, given the kept tokens."""
        score_together(self._model, [(self, [(mask, levels) for mask in masks])])
        return np.array([[self._known[m.tobytes(), level] for level in levels] for m in masks])

    def target_log_likelihoods(
        self, masks: BoolArray, levels: tuple[int, ...]
    ) -> dict[int, FloatArray]:
        """Log-likelihoods [masks] of each level's own target, by level."""
        values = self.log_likelihoods(masks, levels)
        return {level: values[:, n, self.targets[level]] for n, level in enumerate(levels)}

    def _query(self, mask: BoolArray, levels: Collection[int]) -> ScoringQuery:
        tokens = np.where(mask, self.encoded.prompt, self._baseline_token).tolist()
        options = tuple(self.encoded.options[option] for option in self._options)
        return ScoringQuery((*self.encoded.prefix, *tokens), options, tuple(sorted(levels)))


def score_together(
    model: NestedModel,
    requests: Sequence[tuple[MaskedPromptScorer, Iterable[MaskRequest]]],
    progress: Progress | None = None,
) -> None:
    """Evaluate masks of many examples together, so that they share batches and beginnings."""
    asked = [
        (scorer, key, query)
        for scorer, masks in requests
        for key, query in scorer.missing_queries(masks).items()
    ]
    if not asked:
        return
    answers = model.log_likelihoods([query for _, _, query in asked], progress)
    for (scorer, key, query), values in zip(asked, answers, strict=True):
        scorer.learn(key, query, values)
