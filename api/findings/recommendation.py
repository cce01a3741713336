"""A recommendation in words: what to take, what stands against more, how far it can be trusted."""

import math
from typing import Self

from pydantic import Field

from prunelake.recommend.budget import BudgetTerm, CostBudget, parse_budget
from prunelake.recommend.candidates import Candidate, Check, Level
from prunelake.recommend.recommendation import Answer, Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest

from ..queries.snapshot import Snapshot
from .wording import label, listed, number, order_name, percent, ranges

REMOVED_MODULES = {"mlp": "MLPs", "block": "blocks"}
"""What a strategy removes, by the part of its name in front of a colon; else attention layers."""


class Advice(Recommendation):
    """A recommendation with its words."""

    sentences: list[str] = Field(description="The answer as it is, and after recalibration.")
    changes: list[str] = Field(description="What would change each answer.")
    caveats: list[str] = Field(description="What the answers do not tell.")

    @classmethod
    def of(cls, recommendation: Recommendation) -> Self:
        """The recommendation with its words."""
        return cls(
            **{name: getattr(recommendation, name) for name in Recommendation.model_fields},
            sentences=[
                answer_sentence(recommendation, answer) for answer in both_answers(recommendation)
            ],
            changes=what_would_change(recommendation),
            caveats=caveats(recommendation),
        )


def load_advice(snapshot: Snapshot, request: RecommendationRequest) -> Advice:
    """The recommendation that a request asks for, with its words.

    Raises:
        NotFound, NothingToShow: as `prunelake.recommend.recommendation.recommend`.
    """
    with snapshot.cursor() as connection:
        return Advice.of(recommend(connection, request))


def both_answers(found: Recommendation) -> tuple[Answer, Answer]:
    """The answers before and after recalibration."""
    return found.as_it_is, found.recalibrated


def answer_sentence(found: Recommendation, answer: Answer) -> str:
    """What to take, or that there is nothing and why."""
    head = answer_scope(answer)
    if answer.level is None:
        reasons = [
            f"In the {order_name(one.strategy)}, {candidate_rejection(found, one)}."
            for one in answer.candidates
        ]
        return f"{head}: none. {' '.join(reasons)}"
    text = f"{head}: remove {removal_text(found, answer)}, layer{'s' * (answer.level > 1)} "
    text += f"{ranges(answer.removed)}."
    return f"{text} {saving}." if (saving := savings_text(answer)) else text


def margins_text(found: Recommendation) -> str:
    """The margins in one line."""
    each = found.margins
    return (
        f"accuracy {each.accuracy:g}, {label(found.calibration)} {each.calibration:g}, "
        f"explanations {each.faithfulness:g}"
    )


def budget_text(found: Recommendation) -> tuple[BudgetTerm, ...]:
    """The terms of the budget."""
    return parse_budget(found.budget or None).terms


def answer_scope(answer: Answer) -> str:
    """What an answer is about."""
    if answer.calibrator is None:
        return "As it is"
    return f"With its confidence recalibrated ({answer.calibrator.replace('_', ' ')})"


def removal_text(found: Recommendation, answer: Answer) -> str:
    """How many of what are removed in which order: 4 of 30 attention layers in the cosine order."""
    strategy = answer.strategy or ""
    of_all = f" of {found.layer_count}" if found.layer_count else ""
    what = REMOVED_MODULES.get(strategy.partition(":")[0], "attention layers")
    return f"{answer.level}{of_all} {what} in the {order_name(strategy)}"


def savings_text(answer: Answer) -> str:
    """What the level costs beside the unpruned model; empty where nothing was measured."""
    told = []
    for name, verb in (("decode_speedup", "generates"), ("prefill_speedup", "reads prompts")):
        if (ratio := answer.costs.get(name)) is not None:
            told.append(f"{verb} {number(ratio)} times as fast")
    for name, what in (
        ("kv_share", "the cache"),
        ("weight_share", "the weights"),
        ("memory_share", "the memory"),
    ):
        if (share := answer.costs.get(name)) is not None:
            told.append(f"takes {percent(share)} of {what}")
    return f"It {listed(told)}" if told else ""


def rejection_reasons(found: Recommendation, answer: Answer) -> str:
    """Why nothing can be recommended, removal order by removal order."""
    return " ".join(
        f"In the {order_name(one.strategy)}, {candidate_rejection(found, one)}."
        for one in answer.candidates
    )


def candidate_rejection(found: Recommendation, one: Candidate) -> str:
    """Why no level of a candidate can be recommended."""
    if one.reason == "task_missing":
        return f"it was not evaluated on {listed([t for t in found.tasks if t not in one.tasks])}"
    if one.reason == "cost_unknown":
        return f"what {found.budget} names was not measured; `prunelake profile` does"
    if one.reason == "over_budget":
        text = f"no evaluated level meets {found.budget}"
        if (near := one.nearest_level(CostBudget(budget_text(found)))) is None:
            return text
        costs = [f"{term.name} {cost_text(near, term)}" for term in budget_text(found)]
        return f"{text}; the nearest is level {near.level} with {listed(costs)}"
    stop = one.first_failed_level
    if stop is None:
        return "no level was explained on every task; sweep with --methods kernel_shap"
    text = f"level {stop.level} fails: {'; '.join(map(failed_check_text, stop.failures))}"
    within = [level.level for level in one.levels if level.is_within_budget]
    if min(within) > stop.level:
        return f"{found.budget} takes level {min(within)} at least, but {text}"
    return text


def cost_text(at: Level, term: BudgetTerm) -> str:
    """What a level costs in a term's name: two decimals of a ratio."""
    return number(at.costs.get(term.column), 0 if term.name == "removed_layers" else 2)


def failed_check_text(check: Check) -> str:
    """How a check fails: ECE on boolq may be worse by up to 0.034 (loss 0.01, margin 0.02)."""
    where = f"{label(check.metric)} on {check.task}"
    if check.loss_bound is None:
        return f"{where} is not known ({check.note or 'no interval'})"
    return (
        f"{where} may be worse by up to {number(check.loss_bound, 3)} "
        f"(loss {number(check.loss, 3)}, margin {check.margin:g})"
    )


def what_would_change(found: Recommendation) -> list[str]:
    """For each removal order what would change its answer, before and after recalibration."""
    told: dict[str, list[str]] = {}
    for answer in both_answers(found):
        for one in answer.candidates:
            text = f"in the {order_name(one.strategy)}, {_change(one)}."
            told.setdefault(text, []).append(answer_scope(answer))
    return [
        f"{where[0]}, {text}" if len(where) == 1 else text[0].upper() + text[1:]
        for text, where in told.items()
    ]


def caveats(found: Recommendation) -> list[str]:
    """What the answers do not tell."""
    told = [
        "A level passes where the loss against the unpruned model is below the margin at the upper "
        "end of its one-sided 95 % interval. Levels are tested from the shallowest to the first "
        "that fails: for one removal order the chance to recommend a level that is worse by as "
        "much is about 5 % at most."
    ]
    if found.candidate_count > 1:
        told.append(
            f"The best of {found.candidate_count} removal orders is a choice after looking: the "
            "5 % are of each by itself, not of the best."
        )
    if told_of := [text for task in found.tasks if (text := _examples(found, task))]:
        told.append(f"It rests on {listed(told_of)}, and says nothing of other tasks or prompts.")
    told.append(
        "Recalibration is tested on the same examples, each by a map fitted to the others; it "
        "changes no answer, and explanations are as measured before it."
    )
    if found.device is not None:
        told.append(f"Speed and memory are those of {found.device}.")
    return told


def worst_check(at: Level, criterion: str) -> Check:
    """Of all tasks the check that is farthest from passing; one that is not known comes first."""

    def excess(check: Check) -> float:
        return math.inf if check.loss_bound is None else check.loss_bound - check.margin

    return max((check for check in at.checks if check.criterion == criterion), key=excess)


def _change(one: Candidate) -> str:
    if one.reason == "task_missing":
        return "levels have to be evaluated and explained on every task"
    if one.reason == "cost_unknown":
        return "what the budget names has to be measured"
    if one.reason == "over_budget":
        return "other levels have to be evaluated, or the budget be another"
    stop = one.first_failed_level
    if stop is not None:
        return f"level {stop.level} would pass with {'; '.join(map(_need, stop.failures))}"
    tested = [level.level for level in one.levels if level.is_tested]
    if not tested:
        return "levels have to be evaluated and explained on every task"
    return f"all tested levels pass, up to {max(tested)}; deeper ones would have to be tested"


def _need(check: Check) -> str:
    where = f"{label(check.metric)} on {check.task}"
    if check.loss_bound is None:
        return f"{where} known (now: {check.note or 'no interval'})"
    # The least of three decimals above the bound.
    margin = (math.floor(check.loss_bound * 1000) + 1) / 1000
    text = f"a margin of {margin:.3f} for {where} (loss {number(check.loss, 3)})"
    if check.n_needed is not None:
        kind = "explained examples" if check.method else "examples"
        text += f", or about {_round_up(check.n_needed):,} {kind} instead of {check.n:,}"
    return text


def _round_up(count: int) -> int:
    """Two digits of a count that is no more exact, rounded up."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _examples(found: Recommendation, task: str) -> str:
    """How many examples of a task stand behind the checks."""
    checks = [
        check
        for one in found.as_it_is.candidates
        for level in one.levels
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
