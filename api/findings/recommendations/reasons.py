"""Why a level, or any level of a candidate, cannot be recommended."""

from collections.abc import Sequence

from prunelake.recommend.budget import BudgetTerm, parse_budget
from prunelake.recommend.candidates import Candidate, Check, Gap, Level
from prunelake.recommend.recommendation import Answer, Recommendation

from ..wording import at_levels, isolated, label, listed, number, order_name

REASONS_BY_PROMISE = ("cost_unknown", "not_tested", "quality", "over_budget", "task_missing")
"""A candidate that lacks evidence comes before a candidate that fails."""

NAMED_FAILURES = 2
"""The number of failed checks that a sentence names; it counts the others."""


def main_reason(recommendation: Recommendation, answer: Answer) -> str:
    """Why nothing can be recommended: the reason of the candidate that comes closest.

    It comes closest if it lacks evidence, else if it fails at the deepest level, in the fewest
    checks. The sentence counts the other candidates.
    """

    def promise(candidate: Candidate) -> tuple[int, int, int]:
        failed = candidate.first_failed_level
        place = REASONS_BY_PROMISE.index(candidate.reason) if candidate.reason else 0
        return (place, -failed.level, len(failed.failures)) if failed else (place, 0, 0)

    candidates = sorted(answer.candidates, key=promise)
    text = reason_sentence(recommendation, candidates[0])
    others = len(candidates) - 1
    if not others:
        return text
    kind = "candidate" if any(found.label for found in candidates) else "removal order"
    return f"{text} {others} other {kind}{'s' * (others > 1)} cannot be recommended either."


def reason_sentence(recommendation: Recommendation, candidate: Candidate) -> str:
    """Why no level of a candidate can be recommended, as a sentence."""
    return f"{scope_of(candidate)}, {candidate_rejection(recommendation, candidate)}."


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
        missing = [isolated(task) for task in recommendation.tasks if task not in candidate.tasks]
        return (
            f"{'it was not' if candidate.label else 'no level was'} evaluated on {listed(missing)}"
        )
    failed = candidate.first_failed_level
    failure = (
        f"{name_of(candidate, failed)} fails: {failures_text(failed.failures)}" if failed else ""
    )
    if candidate.reason in ("cost_unknown", "not_tested"):
        text = gaps_text(candidate) or _untested_text(candidate)
        return f"{text}; {failure}" if failure else text
    budget = parse_budget(recommendation.budget or None)
    if candidate.reason == "over_budget" or failed is None:
        text = f"no evaluated level meets {recommendation.budget}"
        if (nearest := candidate.nearest_level(budget)) is None:
            return text
        costs = [f"{term.name} {cost_text(nearest, term)}" for term in budget.terms]
        name = candidate.label or f"level {nearest.level}"
        return f"{text}; the nearest is {name} with {listed(costs)}"
    possible = [x.level for x in candidate.levels if not budget.is_exceeded(x.costs)]
    if min(possible) > failed.level:
        return f"{recommendation.budget} takes level {min(possible)} at least, but {failure}"
    return failure


def gaps_text(candidate: Candidate) -> str:
    """The evidence that is missing: `the speedup of level 4 was not measured`; may be empty."""
    among = [level.level for level in candidate.levels]
    return "; ".join(gap_text(gap, among) for gap in candidate.gaps)


def gap_text(gap: Gap, among: Sequence[int]) -> str:
    """The missing evidence, and its levels, which are `among` the evaluated levels."""
    where = at_levels(gap.levels, among)
    were = "were" if len(gap.levels) > 1 else "was"
    if gap.kind == "cost":
        were = "were" if len(gap.names) > 1 else "was"
        return f"the {listed(gap.names)} of {where} {were} not measured"
    done = "explained" if gap.kind == "explanations" else "evaluated"
    return f"{where} {were} not {done} on {listed(gap.names)}"


def _untested_text(candidate: Candidate) -> str:
    """Why no level within the budget was tested, if no open level lacks evidence."""
    if candidate.label is not None:
        return "no explanations were compared on every task; --criteria leaves them out"
    level = next(level for level in candidate.levels if level.measured_failures)
    return measured_failures_text(candidate, level)


def measured_failures_text(candidate: Candidate, level: Level) -> str:
    """The measured criteria that fail at a level, and the tasks on which it was not explained."""
    text = f"{name_of(candidate, level)} fails: {failures_text(level.measured_failures)}"
    unexplained = [isolated(task) for task in sorted(level.unexplained_tasks)]
    return f"{text}; it was not explained on {listed(unexplained)}" if unexplained else text


def failures_text(checks: Sequence[Check]) -> str:
    """Failed checks: the first check in words, and the number of the others."""
    texts = [*map(failed_check_text, checks[:NAMED_FAILURES])]
    if others := len(checks) - len(texts):
        texts.append(f"{others} more check{'s' * (others > 1)}")
    return "; ".join(texts)


def failed_check_text(check: Check) -> str:
    """A failed check: ECE on boolq may be worse by up to 0.034 (loss 0.01, margin 0.02)."""
    where = f"{label(check.metric)} on {isolated(check.task)}"
    if check.loss_bound is None:
        return f"{where} is unknown ({check.note or 'no interval'})"
    return (
        f"{where} may be worse by up to {number(check.loss_bound, 3)} "
        f"(loss {number(check.loss, 3)}, margin {check.margin:g})"
    )


def cost_text(level: Level, term: BudgetTerm) -> str:
    """The cost of a level in a term of the budget; a ratio has two decimals."""
    return number(level.costs.get(term.column), 0 if term.name == "removed_layers" else 2)
