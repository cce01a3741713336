"""What would change an answer, and the commands of the next step."""

import math
import shlex

from prunelake.command_line import rounded_up
from prunelake.recommend.candidates import Candidate, Check
from prunelake.recommend.recommendation import Recommendation
from prunelake.recommend.request import EXPLANATION_CRITERIA

from ..wording import at_levels, isolated, label, number
from .answer import answer_scope, both_answers
from .reasons import candidate_rejection, gaps_text, measured_failures_text, name_of, scope_of


def what_would_change(recommendation: Recommendation) -> list[str]:
    """What would change the answer for each removal order, before and after recalibration.

    The last sentences are the commands that add missing evidence or settle open checks.
    """
    return [
        *change_sentences(recommendation),
        *(f"To settle it: {command}" for command in evidence_commands(recommendation)),
    ]


def change_sentences(recommendation: Recommendation) -> list[str]:
    """What would change the answer, and how many rows a task lacks for it."""
    scopes: dict[str, list[str]] = {}
    for answer in both_answers(recommendation):
        for candidate in answer.candidates:
            scope = scope_of(candidate)
            text = f"{scope[0].lower()}{scope[1:]}, {_change(recommendation, candidate)}."
            scopes.setdefault(text, []).append(answer_scope(answer))
    candidates = _candidates(recommendation)
    shortages = dict.fromkeys(text for candidate in candidates for text in candidate.shortages)
    texts = [
        f"{text_scopes[0]}, {text}" if len(text_scopes) == 1 else text[0].upper() + text[1:]
        for text, text_scopes in scopes.items()
    ]
    if any(gap.kind == "explanations" for candidate in candidates for gap in candidate.gaps):
        others = [name for name in recommendation.criteria if name not in EXPLANATION_CRITERIA]
        texts.append(f"To decide without explanations: --criteria {','.join(others)}.")
    return [*texts, *shortages]


def evidence_commands(recommendation: Recommendation) -> list[str]:
    """The commands that add missing evidence, then the sweeps that settle open checks."""
    found = _candidates(recommendation)
    closing = (command for candidate in found for command in candidate.closed_by)
    settling = (command for candidate in found for command in candidate.settled_by)
    return [*dict.fromkeys((*closing, *settling))]


def next_commands(recommendation: Recommendation) -> list[str]:
    """The command that exports the recommended level; else those of `evidence_commands`."""
    for answer in both_answers(recommendation):
        if answer.label is not None:
            return ["prunelake report"]
        if answer.level is not None and answer.strategy is not None:
            words = ["prunelake", "export", recommendation.model, "--level", str(answer.level)]
            words += ["--strategy", answer.strategy, "--out", "pruned"]
            words += ["--calibrator", answer.calibrator] if answer.calibrator else []
            return [shlex.join(words)]
    return evidence_commands(recommendation)


def _candidates(recommendation: Recommendation) -> list[Candidate]:
    return [found for answer in both_answers(recommendation) for found in answer.candidates]


def _change(recommendation: Recommendation, candidate: Candidate) -> str:
    if candidate.reason == "task_missing":
        return candidate_rejection(recommendation, candidate)
    if candidate.label is not None and candidate.first_failed_level is None:
        return "it passes" if candidate.level else candidate_rejection(recommendation, candidate)
    texts = [gaps_text(candidate)] if candidate.gaps else []
    if failed := candidate.first_failed_level:
        needs = "; ".join(map(_need, failed.failures))
        texts.append(f"{name_of(candidate, failed)} would pass with {needs}")
    elif candidate.reason == "over_budget":
        texts.append("other levels have to be evaluated, or the budget has to be relaxed")
    else:
        texts += _passing_texts(candidate)
    return "; ".join(texts)


def _passing_texts(candidate: Candidate) -> list[str]:
    """The levels that pass, and the first level that fails although it was not fully measured."""
    among = [level.level for level in candidate.levels]
    texts = []
    if passing := [level.level for level in candidate.levels if level.is_tested]:
        texts.append(f"{at_levels(passing, among)} pass{'es' * (len(passing) == 1)} all criteria")
    failed = next((level for level in candidate.levels if level.measured_failures), None)
    if failed is not None:
        texts.append(measured_failures_text(candidate, failed))
    elif not candidate.gaps:
        texts.append("deeper levels were not evaluated")
    return texts


def _need(check: Check) -> str:
    where = f"{label(check.metric)} on {isolated(check.task)}"
    if check.loss_bound is None:
        return f"a known {where} (now: {check.note or 'no interval'})"
    # The smallest number with three decimals above the bound.
    margin = (math.floor(check.loss_bound * 1000) + 1) / 1000
    text = f"a margin of {margin:.3f} for {where} (loss {number(check.loss, 3)})"
    if check.n_needed is not None:
        kind = "explained examples" if check.method else "examples"
        text += f", or about {rounded_up(check.n_needed):,} {kind} instead of {check.n:,}"
    return text
