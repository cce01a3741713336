"""Greedy search by what a removal does to accuracy, calibration and explanations together.

The damage of a model, on rows that are never reported, is the mean of three terms. Each is 0 for
the unpruned model, and has the size of what is at stake as its unit:

- accuracy: by how much the mean probability of the right option has fallen, and
- calibration: by how much the mean Brier score over all options has risen (0 to 2; a proper score),
  both divided by the mean over the rows of 1 - 1 / options. That is what parts a model that knows
  every answer from one that knows none: their probabilities are 1 and 1 / options, and their Brier
  scores 0 and 1 - 1 / options.
- explanations: sum |r - r0| / sum |r0| over masked prompts. r is by how many nats a mask moves the
  log-likelihood of the option that the unpruned model predicts, and r0 the same of the unpruned
  model. 1 is a model that does not respond at all. Attributions by masks are linear in these
  responses (`attribute`), so this is how far they drift, for a cost that a search can pay.

Each row has one pair of complementary masks, drawn by its example's id: half of the prompt's tokens
are replaced, then the others, by the baseline token of explanations. All candidates and all steps
share them.

A step measures the BREADTH layers that were worth least when they were last measured, and not all,
so that the masks can be afforded.
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
        TaskError: no prompt has two tokens or more, so that some could be masked.
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
            "strategy balanced measures the drift of explanations, and no prompt of its search "
            "rows has two tokens; take another strategy or a task with longer prompts"
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
    """The prompt with one half of its tokens replaced, and with the others; none of fewer than two.

    Behind the special tokens that go in front of it. The larger half is replaced second.
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
