"""The words and numbers of a gate's table, for the terminal and for Markdown."""

from collections.abc import Sequence

from prunelake.gate.results import Check, GateResult, Result
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.number_texts import MINUS, number, signed

COLUMNS = (
    *("criterion", "candidate", "baseline", "value"),
    *("change (90 % interval)", "margin", "result", "rows needed"),
)
UNKNOWN = "unknown"
DECIMALS = 4


def criterion_text(check: Check) -> str:
    """The metric of a check, and its explanations or calibrator if the file or the run has them."""
    text = METRIC_DEFINITIONS[check.metric].label
    chosen = [name for name in (check.method, check.operator, check.variant) if name]
    return f"{text} ({', '.join(chosen)})" if chosen else text


def cells(check: Check) -> Sequence[str]:
    """The row of a check, in the order of COLUMNS."""
    return (
        criterion_text(check),
        check.candidate,
        _number(check.baseline_value),
        _number(check.value),
        change_text(check),
        margin_text(check),
        check.result,
        needed_text(check),
    )


def change_text(check: Check) -> str:
    """The change of a metric with both one-sided 95 % bounds, which make a 90 % interval."""
    if check.change is None:
        return UNKNOWN
    if check.change_low is None or check.change_high is None:
        return f"{_signed(check.change)} (interval unknown)"
    bounds = f"{_signed(check.change_low)} to {_signed(check.change_high)}"
    return f"{_signed(check.change)} ({bounds})"


def margin_text(check: Check) -> str:
    """The smallest change that is not allowed: -0.02 if higher values are better."""
    return f"{MINUS if check.direction == 'higher' else '+'}{check.margin:g}"


def needed_text(check: Check) -> str:
    """The rows that would decide an undecided check."""
    if check.result is not Result.undecided:
        return ""
    if check.n_needed is None:
        return UNKNOWN
    return f"{check.n_needed:,}" if check.n_needed < 10**9 else "over 1,000,000,000"


def sentence(check: Check) -> str:
    """A check that has not passed, as a sentence.

    "accuracy of level 4 on boolq: 0.7100 after 0.7500, a change of -0.0400 (-0.0612 to -0.0190);
    the margin is -0.02."
    """
    text = f"{criterion_text(check)} of {check.candidate} on {check.task}: "
    if check.change is None:
        return f"{text}{check.note or 'no value'}."
    text += f"{_number(check.value)} after {_number(check.baseline_value)}, a change of "
    text += f"{change_text(check)}; the margin is {margin_text(check)}."
    if check.note:
        text += f" Reason: {check.note}."
    if check.n_needed is not None:
        text += f" About {needed_text(check)} rows would decide (now {check.n:,})."
    return text


def notes(result: GateResult) -> list[str]:
    """A sentence for each check with a note."""
    return [
        f"{criterion_text(check)} on {check.task}, {check.candidate}: {check.note}."
        for check in result.checks
        if check.note
    ]


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else number(value, DECIMALS)


def _signed(value: float) -> str:
    return signed(value, DECIMALS)
