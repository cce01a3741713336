"""Sentences about a recommendation: the answer, the evidence against more, and its limits."""

import math
import shlex
from typing import Self

from pydantic import Field

from prunelake.command_line import rounded_up
from prunelake.recommend.budget import BudgetTerm, CostBudget, parse_budget
from prunelake.recommend.candidates import Candidate, Check, Level
from prunelake.recommend.recommendation import Answer, Recommendation, recommend
from prunelake.recommend.request import (
    EXPLANATION_CRITERIA,
    Criterion,
    RecommendationRequest,
)

from ..queries.snapshot import Snapshot
from .wording import label, listed, number, order_name, percent, ranges, removed_modules

ORDERS, CANDIDATES = "removal orders", "candidates"


class Advice(Recommendation):
    """A recommendation with its sentences."""

    sentences: list[str] = Field(description="The answers before and after recalibration.")
    changes: list[str] = Field(description="What would change each answer.")
    caveats: list[str] = Field(description="The limits of the answers.")

    @classmethod
    def of(cls, recommendation: Recommendation) -> Self:
        """The recommendation with its sentences."""
        return cls(
            **{name: getattr(recommendation, name) for name in Recommendation.model_fields},
            sentences=[
                answer_sentence(recommendation, answer) for answer in both_answers(recommendation)
            ],
            changes=what_would_change(recommendation),
            caveats=caveats(recommendation),
        )


def load_advice(snapshot: Snapshot, request: RecommendationRequest) -> Advice:
    """The recommendation for a request, with its sentences.

    Raises:
        NotFound, NothingToShow: as `prunelake.recommend.recommendation.recommend`.
    """
    with snapshot.cursor() as connection:
        return Advice.of(recommend(connection, request))


def both_answers(recommendation: Recommendation) -> tuple[Answer, Answer]:
    """The answers before and after recalibration."""
    return recommendation.as_it_is, recommendation.recalibrated


def answer_sentence(recommendation: Recommendation, answer: Answer) -> str:
    """The layers to remove, or the candidate to take, or the reason why there is neither."""
    scope = f"{answer_scope(answer)}{criteria_text(recommendation)}"
    if answer.level is None:
        return f"{scope}: none. {rejection_reasons(recommendation, answer)}"
    if answer.label is not None:
        text = f"{scope}: take {answer.label}, {size_text(answer)}."
    else:
        layers = f"layer{'s' * (answer.level > 1)} {ranges(answer.removed)}"
        text = f"{scope}: remove {removal_text(recommendation, answer)}, {layers}."
    return f"{text} {saving}." if (saving := savings_text(answer)) else text


def size_text(answer: Answer) -> str:
    """Why this candidate is recommended among those that pass: its size, if it is known."""
    if answer.weight_bytes is None:
        return "whose size is unknown; no candidate of a known size passes"
    return f"the smallest candidate that passes ({answer.weight_bytes / 1e6:,.0f} MB of weights)"


def criteria_text(recommendation: Recommendation) -> str:
    """The criteria that decided, if not all: `, by accuracy and calibration alone`."""
    chosen = recommendation.criteria
    return "" if len(chosen) == len(Criterion) else f", by {listed(chosen)} alone"


def margins_text(recommendation: Recommendation) -> str:
    """The margins of the criteria in one line."""
    margins, criteria = recommendation.margins, recommendation.criteria
    texts = []
    if Criterion.accuracy in criteria:
        texts.append(f"accuracy {margins.accuracy:g}")
    if Criterion.calibration in criteria:
        texts.append(f"{label(recommendation.calibration)} {margins.calibration:g}")
    if {*criteria} & {*EXPLANATION_CRITERIA}:
        texts.append(f"explanations {margins.faithfulness:g}")
    return ", ".join(texts)


def budget_terms(recommendation: Recommendation) -> tuple[BudgetTerm, ...]:
    """The terms of the budget."""
    return parse_budget(recommendation.budget or None).terms


def answer_scope(answer: Answer) -> str:
    """The words for an answer before or after recalibration."""
    if answer.calibrator is None:
        return "Without recalibration"
    return f"With recalibrated confidence ({answer.calibrator.replace('_', ' ')})"


def removal_text(recommendation: Recommendation, answer: Answer) -> str:
    """The removed layers of an answer: 4 of 30 attention layers in the cosine order."""
    strategy = answer.strategy or ""
    candidate = answer.candidate
    count = candidate.layer_count if candidate else recommendation.layer_count
    total = f" of {count}" if count else ""
    return f"{answer.level}{total} {removed_modules(strategy)} in the {order_name(strategy)}"


def savings_text(answer: Answer) -> str:
    """The costs of the level relative to the unpruned model; empty where none was measured."""
    clauses = []
    for name, verb in (("decode_speedup", "generates"), ("prefill_speedup", "reads prompts")):
        if (ratio := answer.costs.get(name)) is not None:
            clauses.append(f"{verb} {number(ratio)} times as fast")
    for name, resource in (
        ("kv_share", "the cache"),
        ("weight_share", "the weights"),
        ("memory_share", "the memory"),
    ):
        if (share := answer.costs.get(name)) is not None:
            clauses.append(f"takes {percent(share)} of {resource}")
    return f"It {listed(clauses)}" if clauses else ""


def rejection_reasons(recommendation: Recommendation, answer: Answer) -> str:
    """Why nothing can be recommended, one sentence for each removal order."""
    reasons = (
        (scope_of(candidate), candidate_rejection(recommendation, candidate))
        for candidate in answer.candidates
    )
    return " ".join(f"{scope}, {reason}." for scope, reason in reasons)


def scope_of(candidate: Candidate) -> str:
    """The words in front of a statement about a removal order or a candidate."""
    if candidate.label is not None:
        return f"With {candidate.label}"
    return f"In the {order_name(candidate.strategy)}"


def name_of(candidate: Candidate, level: Level) -> str:
    """A level in a sentence about its candidate: `level 4`, or `it` for a model with a label."""
    return f"level {level.level}" if candidate.label is None else "it"


def candidate_rejection(recommendation: Recommendation, candidate: Candidate) -> str:
    """Why no level of a candidate can be recommended."""
    if candidate.reason == "task_missing":
        missing = [task for task in recommendation.tasks if task not in candidate.tasks]
        return f"it was not evaluated on {listed(missing)}"
    if candidate.reason == "cost_unknown":
        return (
            f"the costs in {recommendation.budget} were not measured; "
            "`prunelake profile` measures them"
        )
    if candidate.reason == "over_budget":
        text = f"no evaluated level meets {recommendation.budget}"
        if (nearest := candidate.nearest_level(CostBudget(budget_terms(recommendation)))) is None:
            return text
        costs = [f"{term.name} {cost_text(nearest, term)}" for term in budget_terms(recommendation)]
        name = candidate.label or f"level {nearest.level}"
        return f"{text}; the nearest is {name} with {listed(costs)}"
    failed_level = candidate.first_failed_level
    if failed_level is None:
        if not {*recommendation.criteria} & {*EXPLANATION_CRITERIA}:
            return "no level was evaluated on every task"
        if candidate.label is not None:
            return "no explanations were compared on every task; --criteria leaves them out"
        return "no level was explained on every task; sweep with --methods difference_shap"
    failures = "; ".join(map(failed_check_text, failed_level.failures))
    text = f"{name_of(candidate, failed_level)} fails: {failures}"
    within_budget = [level.level for level in candidate.levels if level.is_within_budget]
    if min(within_budget) > failed_level.level:
        return f"{recommendation.budget} takes level {min(within_budget)} at least, but {text}"
    return text


def cost_text(level: Level, term: BudgetTerm) -> str:
    """The cost of a level in a term of the budget; a ratio has two decimals."""
    return number(level.costs.get(term.column), 0 if term.name == "removed_layers" else 2)


def failed_check_text(check: Check) -> str:
    """A failed check: ECE on boolq may be worse by up to 0.034 (loss 0.01, margin 0.02)."""
    where = f"{label(check.metric)} on {check.task}"
    if check.loss_bound is None:
        return f"{where} is unknown ({check.note or 'no interval'})"
    return (
        f"{where} may be worse by up to {number(check.loss_bound, 3)} "
        f"(loss {number(check.loss, 3)}, margin {check.margin:g})"
    )


def what_would_change(recommendation: Recommendation) -> list[str]:
    """What would change the answer for each removal order, before and after recalibration.

    The last sentences are the commands of sweeps that would settle open checks.
    """
    return [
        *change_sentences(recommendation),
        *(f"To settle it: {command}" for command in settling_commands(recommendation)),
    ]


def change_sentences(recommendation: Recommendation) -> list[str]:
    """What would change the answer, and how many rows a task lacks for it."""
    scopes: dict[str, list[str]] = {}
    for answer in both_answers(recommendation):
        for candidate in answer.candidates:
            scope = scope_of(candidate)
            text = f"{scope[0].lower()}{scope[1:]}, {_change(candidate)}."
            scopes.setdefault(text, []).append(answer_scope(answer))
    shortages = dict.fromkeys(
        text for candidate in _candidates(recommendation) for text in candidate.shortages
    )
    return [
        f"{text_scopes[0]}, {text}" if len(text_scopes) == 1 else text[0].upper() + text[1:]
        for text, text_scopes in scopes.items()
    ] + [*shortages]


def settling_commands(recommendation: Recommendation) -> list[str]:
    """The sweeps that would settle open checks."""
    candidates = _candidates(recommendation)
    return [*dict.fromkeys(command for found in candidates for command in found.settled_by)]


def next_commands(recommendation: Recommendation) -> list[str]:
    """The commands that export the recommended level, or else settle open checks.

    Without open checks they measure the missing evidence, if any is missing.
    """
    for answer in both_answers(recommendation):
        if answer.label is not None:
            return ["prunelake report"]
        if answer.level is not None and answer.strategy is not None:
            words = ["prunelake", "export", recommendation.model, "--level", str(answer.level)]
            words += ["--strategy", answer.strategy, "--out", "pruned"]
            words += ["--calibrator", answer.calibrator] if answer.calibrator else []
            return [shlex.join(words)]
    if commands := settling_commands(recommendation):
        return commands
    reasons = {candidate.reason for candidate in _candidates(recommendation)}
    model = shlex.quote(recommendation.model)
    if "cost_unknown" in reasons:
        return [f"prunelake profile --model {model}"]
    if all(candidate.label is not None for candidate in _candidates(recommendation)):
        return []
    if reasons & {"task_missing", "not_tested"}:
        return [f"prunelake sweep --model {model} --task {task}" for task in recommendation.tasks]
    return []


def _kinds(recommendation: Recommendation) -> str:
    """The candidates of a recommendation: removal orders, models with a label, or both."""
    kinds = {
        ORDERS if found.label is None else CANDIDATES
        for found in recommendation.as_it_is.candidates
    }
    return " and ".join(sorted(kinds, reverse=True))


def _candidates(recommendation: Recommendation) -> list[Candidate]:
    return [found for answer in both_answers(recommendation) for found in answer.candidates]


def caveats(recommendation: Recommendation) -> list[str]:
    """The limits of the answers."""
    kinds = _kinds(recommendation)
    order = "Levels are tested from the shallowest to the first that fails: the"
    sentences = [
        "A level passes if the upper end of the one-sided "
        f"{interval_text(recommendation)} interval of its loss is below the margin. "
        f"{'The' if kinds == CANDIDATES else order} chance of recommending a level that is worse "
        "by the margin is at most about 5 %."
    ]
    if recommendation.order_count > 1:
        sentences.append(
            f"The best of {recommendation.order_count} {kinds} is chosen after seeing the "
            f"results, so each {'order ' * (kinds == ORDERS)}is tested at 5 % / "
            f"{recommendation.order_count}: the choice then keeps the error rate of 5 %."
        )
    if omitted := [name for name in Criterion if name not in recommendation.criteria]:
        sentences.append(f"Not tested, so not shown to be harmless: {listed(omitted)}.")
    if samples := [
        text for task in recommendation.tasks if (text := _examples(recommendation, task))
    ]:
        sentences.append(
            f"The answers rest on {listed(samples)}, and say nothing about other tasks or prompts."
        )
    sentences.append(
        "Recalibration is tested on the same examples, each with a calibrator fitted to the other "
        "examples. It changes no prediction. Explanations are measured without it."
    )
    if recommendation.device is not None:
        sentences.append(f"Speed and memory were measured on {recommendation.device}.")
    return sentences


def interval_text(recommendation: Recommendation) -> str:
    """The confidence of the one-sided intervals: 95 %, or more for several removal orders."""
    return f"{100 * (1 - recommendation.error_rate):.3g} %"


def worst_check(level: Level, criterion: str) -> Check:
    """The check of a criterion that is farthest from passing; an unknown check comes first."""

    def excess(check: Check) -> float:
        return math.inf if check.loss_bound is None else check.loss_bound - check.margin

    return max((check for check in level.checks if check.criterion == criterion), key=excess)


def _change(candidate: Candidate) -> str:
    if candidate.reason == "task_missing":
        return "levels have to be evaluated and explained on every task"
    if candidate.reason == "cost_unknown":
        return "the costs in the budget have to be measured"
    if candidate.reason == "over_budget":
        return "other levels have to be evaluated, or the budget has to be relaxed"
    failed_level = candidate.first_failed_level
    if failed_level is not None:
        needs = "; ".join(map(_need, failed_level.failures))
        return f"{name_of(candidate, failed_level)} would pass with {needs}"
    tested = [level.level for level in candidate.levels if level.is_tested]
    if not tested:
        return "levels have to be evaluated and explained on every task"
    if candidate.label is not None:
        return "it passes"
    return f"all tested levels pass, up to {max(tested)}; deeper levels would have to be tested"


def _need(check: Check) -> str:
    where = f"{label(check.metric)} on {check.task}"
    if check.loss_bound is None:
        return f"a known {where} (now: {check.note or 'no interval'})"
    # The smallest number with three decimals above the bound.
    margin = (math.floor(check.loss_bound * 1000) + 1) / 1000
    text = f"a margin of {margin:.3f} for {where} (loss {number(check.loss, 3)})"
    if check.n_needed is not None:
        kind = "explained examples" if check.method else "examples"
        text += f", or about {rounded_up(check.n_needed):,} {kind} instead of {check.n:,}"
    return text


def _examples(recommendation: Recommendation, task: str) -> str:
    """The number of examples of a task behind the checks."""
    checks = [
        check
        for candidate in recommendation.as_it_is.candidates
        for level in candidate.levels
        for check in level.checks
        if check.task == task and check.n
    ]
    answered = {check.n for check in checks if check.criterion == "accuracy"}
    explained = {check.n for check in checks if check.criterion == "comprehensiveness"}
    if not answered:
        return ""
    text = f"{_range_text(answered)} examples of {task}"
    return f"{text} ({_range_text(explained)} explained)" if explained else text


def _range_text(counts: set[int | None]) -> str:
    ascending = sorted(count for count in counts if count)
    low, high = ascending[0], ascending[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
