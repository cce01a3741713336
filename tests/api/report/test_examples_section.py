import re
from html import unescape
from pathlib import Path

import pytest

from prunelake.api.findings.selection import Selection
from prunelake.api.queries import runs
from prunelake.api.report.examples_section import examples_section
from prunelake.api.report.sections import markup_of_each
from prunelake.lake.sql import views
from tests.support.runs import lake_rows
from tests.support.runs.example_runs import explained_run

TOKENS = ["Is", " it", "?"]


def section(lake: Path, run_id: str, level: int, method: str | None = "kernel_shap") -> str:
    """The examples of a run at a level, as markup."""
    with views.connect(lake) as connection:
        run = runs.all_runs([run_id]).rows(connection).row(0, named=True)
        return markup_of_each([examples_section(Selection(run, level), method)], connection)[0]


def cards(markup: str) -> list[str]:
    return re.findall(r"<article.*?</article>", markup, re.DOTALL)


def text_of(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<.*?>", " ", markup)).split())


def prompts(card: str) -> list[str]:
    """The marked prompt of each side."""
    return re.findall(r'<p class="tokens">(.*?)</p>', card, re.DOTALL)


def marks(prompt: str) -> list[tuple[str, str, str, str]]:
    """Kind, share of the largest score, score and text of each marked token."""
    found = r'<mark class="(\w+)" style="--s:(.*?)" title="(.*?)">(.*?)</mark>'
    return re.findall(found, prompt, re.DOTALL)


def run_of(lake: Path, pruned: list[float], tokens: list[str] = TOKENS, **columns: object) -> str:
    """A run of one example whose tokens score 0.5, -0.25, 0.01 unpruned, and `pruned` at level 1.

    The unpruned model is right, the pruned one is not.
    """
    run = lake_rows.run_row(levels=[0, 1])
    run_id = str(run["run_id"])
    return lake_rows.write(
        lake,
        run,
        examples=[lake_rows.example(run_id, "test:0", prompt_tokens=tokens, **columns)],
        predictions=[
            lake_rows.prediction(run_id, 0, "test:0", [-1.0, -2.0]),
            lake_rows.prediction(run_id, 1, "test:0", [-2.0, -1.0]),
        ],
        attributions=[
            lake_rows.attribution(run_id, level, "test:0", scores, method="kernel_shap")
            for level, scores in enumerate([[0.5, -0.25, 0.01], pruned])
        ],
    )


def test_a_token_is_marked_by_its_sign_and_its_share_of_the_largest_of_its_side(
    tmp_path: Path,
) -> None:
    (card,) = cards(section(tmp_path, run_of(tmp_path, [0.5, -2.0, 1.0]), 1))
    unpruned, pruned = prompts(card)
    minus = "\N{MINUS SIGN}"
    # The third token is below a twentieth of the largest unpruned score.
    assert marks(unpruned) == [
        ("for", "1.00", "+0.50", "Is"),
        ("against", "0.50", f"{minus}0.25", " it"),
    ]
    assert marks(pruned) == [
        ("for", "0.25", "+0.50", "Is"),
        ("against", "1.00", f"{minus}2.00", " it"),
        ("for", "0.50", "+1.00", "?"),
    ]
    assert re.sub("<.*?>", "", unpruned) == re.sub("<.*?>", "", pruned) == "Is it?"


def test_a_sentence_names_the_strongest_tokens(tmp_path: Path) -> None:
    (card,) = cards(section(tmp_path, run_of(tmp_path, [0.5, 0.25, 1.0]), 1))
    text = text_of(card)
    minus = "\N{MINUS SIGN}"
    assert "Most for it: “Is” (+0.50), “?” (+0.01)" in text
    assert f"(+0.01); most against it: “it” ({minus}0.25)." in text
    assert "Most for it: “?” (+1.00), “Is” (+0.50); most against it: nothing." in text


def test_both_answers_are_shown_with_the_right_answer(tmp_path: Path) -> None:
    run_id = run_of(tmp_path, [0.5, 0.25, 1.0], options=[" no", " yes"])
    (card,) = cards(section(tmp_path, run_id, 1))
    text = text_of(card)
    assert "test:0: right unpruned, wrong pruned" in text
    assert "The right answer is “no”." in text
    assert "Unpruned: “no”, right , confidence 0.73" in text
    assert "Level 1: “yes”, wrong , confidence 0.73" in text


def test_flips_come_first_and_only_explained_examples(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    markup = section(tmp_path, run_id, 2)
    # Of four examples the first two are explained; at level 2 the second one becomes wrong.
    heads = re.findall(r"<h5>(.*?)</h5>", markup)
    assert heads == ["test:1: right unpruned, wrong pruned", "test:0: the same answer"]
    assert "Examples at level 2" in markup


def test_sections_that_ask_together_are_those_that_ask_alone(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    levels = (2, 0, 1)
    with views.connect(tmp_path) as connection:
        run = runs.all_runs([run_id]).rows(connection).row(0, named=True)
        together = markup_of_each(
            [examples_section(Selection(run, level), "kernel_shap") for level in levels], connection
        )
    assert together == [section(tmp_path, run_id, level) for level in levels]


def test_texts_of_the_data_cannot_inject_markup(tmp_path: Path) -> None:
    evil = "<script>alert('1')</script>&\""
    tokens = [evil, "<b>", "\n"]
    run_id = run_of(tmp_path, [0.5, 0.25, 1.0], tokens, options=[evil, "</p>"])
    markup = section(tmp_path, run_id, 1)
    assert set(re.findall(r"<(\w+)", markup)) == {
        "h4", "p", "mark", "article", "h5", "div", "strong", "span",
    }  # fmt: skip
    assert markup.count("</p>") == markup.count("<p")
    assert evil in unescape(markup)


def test_a_marked_line_break_can_be_seen(tmp_path: Path) -> None:
    run_id = run_of(tmp_path, [0.1, 0.25, 1.0], ["Is", " it", "\n"])
    (card,) = cards(section(tmp_path, run_id, 1))
    assert [text for *_, text in marks(prompts(card)[1])] == ["Is", " it", "↵\n"]
    assert "“line break” (+1.00)" in text_of(card)


def test_scores_of_zero_mark_nothing(tmp_path: Path) -> None:
    (card,) = cards(section(tmp_path, run_of(tmp_path, [0.0, 0.0, 0.0]), 1))
    assert prompts(card)[1] == "Is it?"
    assert "Most for it: nothing; most against it: nothing." in text_of(card)


@pytest.mark.parametrize(("level", "method"), [(0, "kernel_shap"), (1, None)])
def test_without_a_pruned_level_or_a_method_there_is_nothing_to_compare(
    tmp_path: Path, level: int, method: str | None
) -> None:
    assert section(tmp_path, explained_run(tmp_path), level, method) == ""


def test_a_run_without_explanations_shows_no_examples(tmp_path: Path) -> None:
    assert section(tmp_path, explained_run(tmp_path, drops={}), 1) == ""
