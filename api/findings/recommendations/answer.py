"""The answer: the layers to remove, or the candidate to take, or why there is neither."""

from prunelake.recommend.budget import BudgetTerm, parse_budget
from prunelake.recommend.recommendation import Answer, Recommendation
from prunelake.recommend.request import EXPLANATION_CRITERIA, Criterion

from ..wording import (
    interval,
    isolated,
    label,
    listed,
    number,
    order_name,
    percent,
    ranges,
    removed_modules,
)
from .reasons import main_reason


def both_answers(recommendation: Recommendation) -> tuple[Answer, Answer]:
    """The answers before and after recalibration."""
    return recommendation.as_it_is, recommendation.recalibrated


def answer_sentences(recommendation: Recommendation) -> list[str]:
    """The two answers; the second says that it is the same, if it is."""
    before, after = both_answers(recommendation)
    first = answer_sentence(recommendation, before)
    second = answer_sentence(recommendation, after)
    if first.removeprefix(answer_scope(before)) == second.removeprefix(answer_scope(after)):
        second = f"{answer_scope(after)}: the same."
    return [first, second]


def answer_sentence(recommendation: Recommendation, answer: Answer) -> str:
    """The layers to remove, or the candidate to take, or the main reason why there is neither."""
    scope = f"{answer_scope(answer)}{criteria_text(recommendation)}"
    if answer.level is None:
        text = f"{scope}: none. {main_reason(recommendation, answer)}"
        has_speeds = any(term.name.endswith("speedup") for term in budget_terms(recommendation))
        return f"{text} {busy}." if has_speeds and (busy := busy_text(recommendation)) else text
    if answer.label is not None:
        text = f"{scope}: take {isolated(answer.label)}, {size_text(answer)}."
    else:
        layers = f"layer{'s' * (answer.level > 1)} {ranges(answer.removed)}"
        text = f"{scope}: remove {removal_text(recommendation, answer)}, {layers}."
    return f"{text} {saving}." if (saving := savings_text(recommendation, answer)) else text


def answer_scope(answer: Answer) -> str:
    """The words for an answer before or after recalibration."""
    if answer.calibrator is None:
        return "Without recalibration"
    return f"With recalibrated confidence ({answer.calibrator.replace('_', ' ')})"


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


def size_text(answer: Answer) -> str:
    """Why this candidate is recommended among those that pass: its size, if it is known."""
    if answer.weight_bytes is None:
        return "whose size is unknown; no candidate of a known size passes"
    return f"the smallest candidate that passes ({answer.weight_bytes / 1e6:,.0f} MB of weights)"


def removal_text(recommendation: Recommendation, answer: Answer) -> str:
    """The removed layers of an answer: 4 of 30 attention layers in the cosine order."""
    strategy = answer.strategy or ""
    candidate = answer.candidate
    count = candidate.layer_count if candidate else recommendation.layer_count
    total = f" of {count}" if count else ""
    return f"{answer.level}{total} {removed_modules(strategy)} in the {order_name(strategy)}"


def savings_text(recommendation: Recommendation, answer: Answer) -> str:
    """The costs of the level relative to the unpruned model; empty where none is known.

    The range of a speed-up is that of its repeats.
    """
    clauses = []
    for name, verb in (("decode_speedup", "generates"), ("prefill_speedup", "reads prompts")):
        if (ratio := answer.costs.get(name)) is not None:
            reach = interval(answer.costs.get(f"{name}_low"), answer.costs.get(f"{name}_high"))
            clauses.append(f"{verb} {number(ratio)} times as fast{f' ({reach})' if reach else ''}")
    has_speeds = bool(clauses)
    shares = [
        f"{percent(share)} of {resource}"
        for name, resource in (
            ("kv_share", "the cache"),
            ("weight_share", "the weights"),
            ("memory_share", "the memory"),
        )
        if (share := answer.costs.get(name)) is not None
    ]
    if shares:
        clauses.append(f"takes {listed(shares)}")
    if not clauses:
        return ""
    text = f"It {listed(clauses)}"
    return f"{text}. {busy}" if has_speeds and (busy := busy_text(recommendation)) else text


def busy_text(recommendation: Recommendation) -> str:
    """The caveat of speeds from a busy machine; empty if it was idle."""
    if recommendation.busy_load is None:
        return ""
    load = number(recommendation.busy_load, 0 if recommendation.busy_load >= 10 else 1)
    return f"These speeds are unreliable: the machine was busy (load {load})"
