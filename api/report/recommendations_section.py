"""The recommendations in the report, in plain words."""

from collections.abc import Iterator, Sequence
from html import escape

from prunelake.errors import NothingToShow
from prunelake.lake.sql.bound_query import Connection
from prunelake.recommend.candidates import Candidate, Check, Level
from prunelake.recommend.recommendation import Answer, Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest

from ..findings.recommendations.answer import (
    both_answers,
    margins_text,
    removal_text,
    savings_text,
    size_text,
)
from ..findings.recommendations.caveats import caveats
from ..findings.recommendations.changes import what_would_change
from ..findings.recommendations.reasons import candidate_rejection, main_reason, name_of, scope_of
from ..findings.wording import isolated, label, listed, model_name, number, order_name, ranges
from . import html

CRITERION_HELP = {
    "accuracy": "right answers, as a share",
    "calibration": "the gap between its confidence and its accuracy",
    "comprehensiveness": "confidence lost without the words that its explanation names",
    "sufficiency": "confidence lost with those words alone",
}
"""The meaning of each criterion in plain words."""


def recommended_section(connection: Connection, models: Sequence[str]) -> str:
    """The recommendation for each model of the lake; empty if no model can get one."""
    parts = "".join(filter(None, (_model_part(connection, model) for model in models)))
    if not parts:
        return ""
    return (
        "<section><h2>Recommendations</h2>"
        "<p>A removal is recommended only if it is shown to do no harm. On the same examples as "
        "the unpruned model, the pruned model must be right as often, its confidence must be as "
        "honest, and its explanations must name words that matter as much. For each of these, the "
        "tests must rule out a loss as large as the margin. Otherwise the answer is to remove "
        "nothing. That does not mean that a removal does harm.</p>"
        f"{parts}</section>"
    )


def _model_part(connection: Connection, model: str) -> str | None:
    try:
        recommendation = recommend(connection, RecommendationRequest(model=model))
    except NothingToShow:
        return None
    name = isolated(model_name(recommendation.model))
    tasks = [*map(isolated, recommendation.tasks)]
    return (
        f"<h3>{html.name(name)}</h3>"
        f'<p class="soft">On {escape(listed(tasks))}; margins: '
        f"{escape(margins_text(recommendation))}.</p>"
        + "".join(
            f'<p class="finding">{escape(text)}</p>' for text in _answers(recommendation, name)
        )
        + _evidence(recommendation)
        + _list("What would change the answer", what_would_change(recommendation))
        + _list("Limits of the answer", caveats(recommendation))
    )


def _answers(recommendation: Recommendation, name: str) -> Iterator[str]:
    before, after = both_answers(recommendation)
    yield _answer(recommendation, before, name)
    if (before.level, before.strategy, before.label) == (after.level, after.strategy, after.label):
        yield "Recalibrating its confidence would not change this answer."
    elif after.level is None:
        yield (
            "With recalibrated confidence nothing could be recommended: "
            + main_reason(recommendation, after)
        )
    elif after.label is not None:
        taken = isolated(after.label)
        yield f"With recalibrated confidence ({_named(after)}) you can take {taken}."
    else:
        yield _with_savings(
            f"With recalibrated confidence ({_named(after)}) you can remove "
            f"{removal_text(recommendation, after)}.",
            recommendation,
            after,
        )


def _answer(recommendation: Recommendation, answer: Answer, name: str) -> str:
    if answer.level is None:
        are_models = all(candidate.label is not None for candidate in answer.candidates)
        first = f"Keep {name}." if are_models else f"Remove nothing from {name} yet."
        return f"{first} {_why(recommendation, answer)}"
    if answer.label is not None:
        return (
            f"You can take {isolated(answer.label)}, {size_text(answer)}, in place of {name}: no "
            "loss beyond the margins was found, and a loss that large is unlikely."
        )
    return _with_savings(
        f"You can remove {removal_text(recommendation, answer)} from {name} "
        f"(layer{'s' * (answer.level > 1)} {ranges(answer.removed)}): no loss beyond the margins "
        "was found there, and a loss that large is unlikely.",
        recommendation,
        answer,
    )


def _with_savings(text: str, recommendation: Recommendation, answer: Answer) -> str:
    savings = savings_text(recommendation, answer)
    return f"{text} {savings}." if savings else text


def _named(answer: Answer) -> str:
    return f"by {(answer.calibrator or '').replace('_', ' ')}"


def _why(recommendation: Recommendation, answer: Answer) -> str:
    """Why nothing is recommended; a table gives the numbers."""
    sentences = []
    for candidate in answer.candidates:
        text = candidate_rejection(recommendation, candidate)
        failed = candidate.first_failed_level
        if candidate.reason == "quality" and failed is not None:
            names = dict.fromkeys(label(check.metric) for check in failed.failures)
            level_name = name_of(candidate, failed)
            text = f"{level_name} is not shown to keep {listed([*names])}"
        sentences.append(f"{scope_of(candidate)}, {text}.")
    return " ".join(sentences)


def _evidence(recommendation: Recommendation) -> str:
    """The checks at the recommended level before recalibration.

    Without a recommendation: the checks at the deepest of the levels that failed first.
    """
    answer = recommendation.as_it_is
    shown: tuple[Candidate, Level] | None = None
    if (chosen := answer.candidate) is not None and answer.level is not None:
        shown = chosen, chosen.level_at(answer.level)
    else:
        failed_levels = [
            (candidate, level)
            for candidate in answer.candidates
            if (level := candidate.first_failed_level) is not None
        ]
        shown = max(failed_levels, key=lambda pair: pair[1].level, default=None)
    if shown is None:
        return ""
    candidate, level = shown
    return html.table(
        f"{isolated(candidate.label)} and its baseline"
        if candidate.label
        else f"Level {level.level} of the {order_name(candidate.strategy)} and the unpruned model",
        ("criterion", "unpruned", "pruned", "worse by", "at most", "margin", "harmless"),
        [_row(check) for check in level.checks],
        text_columns={6},
    )


def _row(check: Check) -> list[str | html.TableCell]:
    return [
        html.TableCell(
            CRITERION_HELP[check.criterion], below=f"{label(check.metric)}, {isolated(check.task)}"
        ),
        number(check.unpruned_value, 3),
        number(check.value, 3),
        number(check.loss, 3),
        number(check.loss_bound, 3),
        f"{check.margin:g}",
        html.TableCell("shown", kind="equivalent")
        if check.is_met
        else html.TableCell("not shown", below=check.note or "", kind="visible")
        if check.is_measured
        else "not measured",
    ]


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h4>{title}</h4><ul>{items}</ul>"
