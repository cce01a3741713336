"""What to remove, in the report: for who decides, and not for who measures."""

from collections.abc import Iterator, Sequence
from html import escape

from prunelake.errors import NothingToShow
from prunelake.lake.bound_query import Connection
from prunelake.recommend.candidates import Candidate, Check, Level
from prunelake.recommend.recommendation import Answer, Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest

from ..findings import recommendation
from ..findings.wording import label, listed, model_name, number, order_name, ranges
from . import html

CRITERION_HELP = {
    "accuracy": "right answers, as a share",
    "calibration": "how far its confidence is from how often it is right",
    "comprehensiveness": "confidence lost without the words that its explanation names",
    "sufficiency": "confidence lost with those words alone",
}
"""What each criterion counts, in plain words."""


def recommended_section(connection: Connection, models: Sequence[str]) -> str:
    """The recommendation for each model of the lake; empty where nothing can be said of any."""
    parts = "".join(filter(None, (_of_model(connection, model) for model in models)))
    if not parts:
        return ""
    return (
        "<section><h2>What to remove</h2>"
        "<p>Removing layers is recommended only where it is shown to do no harm. On the same "
        "examples as the unpruned model, the smaller one has to answer as often right, be as "
        "honest in its confidence, and explain itself by words that matter as much; in none of "
        "these may chance hide a loss as large as the margin. Where that is not shown the answer "
        "is to remove nothing, which does not say that there is harm.</p>"
        f"{parts}</section>"
    )


def _of_model(connection: Connection, model: str) -> str | None:
    try:
        found = recommend(connection, RecommendationRequest(model=model))
    except NothingToShow:
        return None
    name = model_name(found.model)
    return (
        f"<h3>{escape(name)}</h3>"
        f'<p class="soft">On {escape(listed(found.tasks))}; margins: '
        f"{escape(recommendation.margins_text(found))}.</p>"
        + "".join(f'<p class="finding">{escape(text)}</p>' for text in _answers(found, name))
        + _evidence(found)
        + _list("What would change this", recommendation.what_would_change(found))
        + _list("What could still be wrong", recommendation.caveats(found))
    )


def _answers(found: Recommendation, name: str) -> Iterator[str]:
    before, after = recommendation.both_answers(found)
    yield _answer(found, before, name)
    if (before.level, before.strategy) == (after.level, after.strategy):
        yield "Recalibrating its confidence would not change that."
    elif after.level is None:
        yield (
            "With recalibrated confidence nothing could be recommended: "
            + recommendation.rejection_reasons(found, after)
        )
    else:
        yield (
            f"With recalibrated confidence ({_named(after)}) you can remove "
            f"{recommendation.removal_text(found, after)}. "
            f"{recommendation.savings_text(after)}".strip()
        )


def _answer(found: Recommendation, answer: Answer, name: str) -> str:
    if answer.level is None:
        return f"Remove nothing from {name} yet. {_why(found, answer)}"
    text = (
        f"You can remove {recommendation.removal_text(found, answer)} from {name} "
        f"(layer{'s' * (answer.level > 1)} {ranges(answer.removed)}): no harm beyond the margins "
        "was found there, and none that large is likely."
    )
    return f"{text} {saving}." if (saving := recommendation.savings_text(answer)) else text


def _named(answer: Answer) -> str:
    return f"by {(answer.calibrator or '').replace('_', ' ')}"


def _why(found: Recommendation, answer: Answer) -> str:
    """Why nothing is recommended, without the numbers, which a table has."""
    told = []
    for one in answer.candidates:
        text = recommendation.candidate_rejection(found, one)
        if one.reason == "quality" and (stop := one.first_failed_level) is not None:
            names = dict.fromkeys(label(check.metric) for check in stop.failures)
            text = f"level {stop.level} is not shown to be harmless to {listed([*names])}"
        told.append(f"In the {order_name(one.strategy)}, {text}.")
    return " ".join(told)


def _evidence(found: Recommendation) -> str:
    """The checks at the level that is recommended, else at the deepest that was the first to fail.

    Of the model as it is.
    """
    answer = found.as_it_is
    shown: tuple[Candidate, Level] | None = None
    if (chosen := answer.candidate) is not None and answer.level is not None:
        shown = chosen, chosen.level_at(answer.level)
    else:
        stops = [
            (one, stop) for one in answer.candidates if (stop := one.first_failed_level) is not None
        ]
        shown = max(stops, key=lambda pair: pair[1].level, default=None)
    if shown is None:
        return ""
    one, at = shown
    return html.table(
        f"Level {at.level} of the {order_name(one.strategy)} beside the unpruned model",
        ("what is counted", "unpruned", "pruned", "worse by", "at most", "margin", "harmless"),
        [_row(check) for check in at.checks],
        text_columns={6},
    )


def _row(check: Check) -> list[str | html.TableCell]:
    return [
        html.TableCell(
            CRITERION_HELP[check.criterion], below=f"{label(check.metric)}, {check.task}"
        ),
        number(check.unpruned_value, 3),
        number(check.value, 3),
        number(check.loss, 3),
        number(check.loss_bound, 3),
        f"{check.margin:g}",
        html.TableCell("shown", kind="equivalent")
        if check.is_met
        else html.TableCell("not shown", below=check.note or "", kind="visible"),
    ]


def _list(title: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<h4>{title}</h4><ul>{items}</ul>"
