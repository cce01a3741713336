"""The examples in the report: answers of the unpruned and the pruned model, with their tokens."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from prunelake.schema.analysis_tables import FOREIGN_TOKENS_NOTE

from ..findings.selection import Selection
from ..findings.wording import number, signed
from ..queries import examples
from . import html
from .sections import Section

MAX_EXAMPLES = 3
"""The most examples that the report shows of a run."""

MIN_MARKED_SHARE = 0.05
"""Tokens are marked if their score is at least this share of the model's largest score."""

MAX_NAMED_TOKENS = 2
"""The most tokens that the text names for a prediction, and the most against it."""

FLIP_DESCRIPTIONS = {
    "harmful": "right unpruned, wrong pruned",
    "beneficial": "wrong unpruned, right pruned",
    "neutral": "another wrong answer when pruned",
    None: "the same answer",
}

CANDIDATE_FLIPS = {
    "harmful": "right at the baseline, wrong at the candidate",
    "beneficial": "wrong at the baseline, right at the candidate",
    "neutral": "another wrong answer",
    None: "the same answer",
}

Row = Mapping[str, Any]
TokenScores = Sequence[tuple[str, float | None]]


def examples_section(selection: Selection, method: str | None) -> Section:
    """The explained examples that change most at the selected level; empty without any.

    `method` is the method of the run's headline explanation.
    """
    if method is None or selection.level == 0:
        return ""
    listed = yield examples.notable_examples(selection.run_id, selection.level, MAX_EXAMPLES)
    names = selection.names
    cards = ""
    for row in listed.fill_nan(None).filter("is_explained").iter_rows(named=True):
        cards += yield from _card(selection, row, method)
    if not cards:
        return ""
    return (
        f"<h4>Examples {escape(names.at([selection.level]))}, compared with {names.baseline}</h4>"
        '<p class="soft note">Marks show how much a token changes the log-likelihood of the option '
        f"that the model predicts (by {escape(method)}, mean over seeds): "
        '<mark class="for" style="--s:.6">for it</mark> with a solid line, '
        '<mark class="against" style="--s:.6">against it</mark> with a dashed line. A deeper '
        "colour means a larger score, relative to the largest score of the same model.</p>"
        f"{cards}"
    )


def _card(selection: Selection, row: Row, method: str) -> Section:
    run_id, example_id = selection.run_id, row["example_id"]
    names = selection.names
    known = (yield examples.example(run_id, example_id, selection.level)).row(0, named=True)
    options = known["options"]
    # The tokens of level 0.
    foreign = {} if known["shares_tokens"] else {"pruned": f"{FOREIGN_TOKENS_NOTE}."}
    tokens = yield examples.token_scores(run_id, example_id, selection.level, method)
    before, after = "Unpruned", f"Level {selection.level}"
    if names.is_comparison:
        before, after = names.short(0), names.short(selection.level)
    answers = (
        (before, "unpruned", row["unpruned_prediction"], row["unpruned_confidence"]),
        (after, "pruned", row["prediction"], row["confidence"]),
    )
    sides = "".join(
        f"<div><p><strong>{escape(name)}:</strong> {_answer(options, prediction, row['gold'])}, "
        f"confidence {number(confidence)}</p>"
        f"{_explanation(_scored(tokens, column), foreign.get(column))}</div>"
        for name, column, prediction, confidence in answers
    )
    descriptions = CANDIDATE_FLIPS if names.is_comparison else FLIP_DESCRIPTIONS
    return (
        f'<article class="example"><h5>{html.name(example_id)}: '
        f"{descriptions[row['flip_kind']]}</h5>"
        f"<p>The right answer is {_option(options, row['gold'])}.</p>"
        f'<div class="sides">{sides}</div></article>'
    )


def _answer(options: Sequence[str], prediction: int, gold: int) -> str:
    verdict = "right" if prediction == gold else "wrong"
    return f'{_option(options, prediction)}, <span class="{verdict}">{verdict}</span>'


def _option(options: Sequence[str], index: int) -> str:
    return html.quoted(options[index].strip())


def _scored(tokens: pl.DataFrame, column: str) -> TokenScores:
    return tokens.select("token", pl.col(column).fill_nan(None)).rows()


def _explanation(scored: TokenScores, note: str | None = None) -> str:
    """The prompt with marked tokens, and a sentence about the strongest tokens.

    `note` says why the prompt has no scores.
    """
    largest = max((abs(score) for _, score in scored if score is not None), default=0.0)
    text = "".join(_marked(token, score, largest) for token, score in scored)
    known = [(token, score) for token, score in scored if score is not None]
    words = _strongest(known) if known else note or "No token was scored."
    return f'<p class="tokens">{text}</p><p class="soft note">{words}</p>'


def _marked(token: str, score: float | None, largest: float) -> str:
    if score is None or abs(score) < MIN_MARKED_SHARE * largest or largest == 0:
        return escape(token)
    kind = "for" if score > 0 else "against"
    # A line break alone would show no colour.
    shown = escape(token).replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n")
    share = f"{abs(score) / largest:.2f}"
    return f'<mark class="{kind}" style="--s:{share}" title="{signed(score)}">{shown}</mark>'


def _strongest(scored: Sequence[tuple[str, float]]) -> str:
    parts = []
    for text, sign in (("Most for it", 1), ("most against it", -1)):
        pushing = [(token, score) for token, score in scored if sign * score > 0]
        strongest = sorted(pushing, key=lambda pair: -abs(pair[1]))[:MAX_NAMED_TOKENS]
        named = ", ".join(f"{html.quoted(_name(t))} ({signed(score)})" for t, score in strongest)
        parts.append(f"{text}: {named or 'nothing'}")
    return f"{'; '.join(parts)}."


def _name(token: str) -> str:
    return token.strip() or ("line break" if "\n" in token else "space")
