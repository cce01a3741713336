"""The limits of an answer: its error rate, its examples, and the quality of its costs."""

from prunelake.recommend.recommendation import Recommendation
from prunelake.recommend.request import Criterion

from ..wording import isolated, listed
from .texts import text_sentences

ORDERS, CANDIDATES = "removal orders", "candidates"


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
    sentences += text_sentences(recommendation)
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
        text = f"Speed and memory were measured on {recommendation.device}."
        if recommendation.busy_load is not None:
            text += (
                f" The machine was busy (load {recommendation.busy_load:.1f}): speed-ups, and the "
                "budgets that they meet, are unreliable. Run `prunelake profile` again when it is "
                "idle."
            )
        sentences.append(text)
    return sentences


def interval_text(recommendation: Recommendation) -> str:
    """The confidence of the one-sided intervals: 95 %, or more if orders were compared."""
    return f"{100 * (1 - recommendation.error_rate):.3g} %"


def _kinds(recommendation: Recommendation) -> str:
    """The candidates of a recommendation: removal orders, models with a label, or both."""
    kinds = {
        ORDERS if found.label is None else CANDIDATES
        for found in recommendation.as_it_is.candidates
    }
    return " and ".join(sorted(kinds, reverse=True))


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
    text = f"{_range_text(answered)} examples of {isolated(task)}"
    return f"{text} ({_range_text(explained)} explained)" if explained else text


def _range_text(counts: set[int | None]) -> str:
    ascending = sorted(count for count in counts if count)
    low, high = ascending[0], ascending[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
