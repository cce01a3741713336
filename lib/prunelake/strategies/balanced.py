"""Greedy search by the damage of a removal to accuracy, calibration and explanations together.

The damage to a model, on rows that are never reported, is the mean of three terms. Each term is 0
for the unpruned model, and its unit is the full range from a perfect to a useless model:

- accuracy: the fall of the mean probability of the right option, and
- calibration: the rise of the mean Brier score over all options (0 to 2; a proper score). Both are
  divided by the mean over the rows of 1 - 1 / options, the distance between a model that knows
  every answer and a model that knows no answer: their probabilities are 1 and 1 / options, and
  their Brier scores 0 and 1 - 1 / options.
- explanations: sum |r - r0| / sum |r0| over masked prompts. r is the change in nats that a mask
  makes to the log-likelihood of the option that the unpruned model predicts; r0 is this change in
  the unpruned model. The term is 1 for a model whose answers do not depend on its prompt.
  Attributions by masks are linear in these responses (`attributions`), so the term measures their
  drift at a cost that a search can pay.

Each row has one pair of complementary masks, drawn by its example's id. The first mask replaces
half of the prompt's tokens with the baseline token of explanations, the second mask the other
tokens. All candidates and all steps share the masks.

A step measures only the CANDIDATES_PER_STEP layers that were least important when they were last
measured. Measuring all layers with masks would cost too much.
"""

from collections.abc import Sequence

import numpy as np

from prunelake.analysis.confidence import option_probabilities
from prunelake.errors import TaskError
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.schema.arrays import FloatArray
from prunelake.spec import Explanation
from prunelake.strategies.greedy import ImportanceFunction, damage_increase
from prunelake.tasks.encoding import EncodedExample
from prunelake.tasks.rows import example_generator

CANDIDATES_PER_STEP = 6
"""The number of layers that each step measures; the first step measures all."""


def balanced_increase(model: NestedModel, examples: Sequence[EncodedExample]) -> ImportanceFunction:
    """The increase of the damage to accuracy, calibration and explanations by each removal.

    Raises:
        TaskError: every prompt has fewer than two tokens, so no prompt can be masked.
    """
    whole = [ScoringQuery((*e.prefix, *e.prompt), e.options, (0,)) for e in examples]
    answers = model.log_likelihoods(whole)
    predicted = [int(answer[0].argmax()) for answer in answers]
    masked = [
        (number, ScoringQuery(context, (e.options[predicted[number]],), (0,)))
        for number, e in enumerate(examples)
        for context in masked_contexts(e)
    ]
    if not masked:
        raise TaskError(
            "strategy balanced measures the drift of explanations, but every prompt of its search "
            "rows has fewer than two tokens; take another strategy or a task with longer prompts"
        )
    queries = [query for _, query in masked]
    rows = len(examples)
    stake = float(np.mean([1 - 1 / len(e.options) for e in examples]))

    def responses(answers: Sequence[FloatArray]) -> FloatArray:
        """The change of the predicted option's log-likelihood by each mask [masks, levels]."""
        return np.array(
            [
                answer[:, 0] - answers[number][:, predicted[number]]
                for (number, _), answer in zip(masked, answers[rows:], strict=True)
            ]
        )

    unpruned = [*answers, *model.log_likelihoods(queries)]
    right, brier = _gold_probability_and_brier(unpruned[:rows], examples)
    response = responses(unpruned)

    def damage(answers: Sequence[FloatArray]) -> FloatArray:
        own_right, own_brier = _gold_probability_and_brier(answers[:rows], examples)
        drift = np.abs(responses(answers) - response).sum(axis=0) / np.abs(response).sum()
        return np.asarray(((right - own_right + own_brier - brier) / stake + drift) / 3)

    return damage_increase(model, [*whole, *queries], damage, CANDIDATES_PER_STEP)


def masked_contexts(encoded: EncodedExample) -> list[tuple[int, ...]]:
    """The prompt with half of its tokens replaced, and with the other half; none below two tokens.

    Each context begins with the special tokens. The larger half is replaced second.
    """
    count = len(encoded.prompt)
    if count < 2:
        return []
    generator = example_generator(encoded.example.example_id, seed=0)
    is_kept = np.zeros(count, dtype=bool)
    is_kept[generator.choice(count, count - count // 2, replace=False)] = True
    baseline = Explanation().baseline_token
    return [
        (*encoded.prefix, *np.where(mask, encoded.prompt, baseline).tolist())
        for mask in (is_kept, ~is_kept)
    ]


def _gold_probability_and_brier(
    answers: Sequence[FloatArray], examples: Sequence[EncodedExample]
) -> tuple[FloatArray, FloatArray]:
    """Means over rows [levels] of the right option's probability, and of the Brier score."""
    right, brier = [], []
    for answer, encoded in zip(answers, examples, strict=True):
        shares = option_probabilities(answer)
        is_right = np.arange(shares.shape[1]) == encoded.example.gold
        right.append(shares[:, encoded.example.gold])
        brier.append(((shares - is_right) ** 2).sum(axis=1))
    return np.mean(right, axis=0), np.mean(brier, axis=0)
