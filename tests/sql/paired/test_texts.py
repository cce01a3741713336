"""The views of measured texts, and their metrics: expected rows by hand."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs.lake_rows import named_level, prediction, rows_of, run_row, text, write

RUN = run_row("run", example_count=4)
R = str(RUN["run_id"])
EXAMPLES = ("a", "b", "c", "d")

LEVEL_0: dict[str, list[int]] = {"a": [1, 2, 3, 4, 5], "b": [1, 2, 1, 2, 1, 2], "c": [], "d": [7]}
LEVEL_1: dict[str, list[int]] = {"a": [1, 2, 9], "b": [3, 3, 3, 3, 3, 3], "c": [], "d": []}


def texts(**columns: Any) -> list[dict[str, Any]]:
    """Texts of 8 nats over 4 tokens at level 0, of 12 nats at level 1."""
    return [
        text(R, level, name, ids, prompt_nll=8.0 + 4 * level, **columns)
        for level, own in enumerate((LEVEL_0, LEVEL_1))
        for name, ids in own.items()
    ]


def write_texts(lake: Path, rows: list[dict[str, Any]], **tables: Any) -> None:
    predictions = [prediction(R, level, name, [0.0, -2.0]) for level in (0, 1) for name in EXAMPLES]
    write(lake, RUN, predictions=predictions, texts=rows, **tables)


def test_each_text_stands_beside_the_text_of_level_0(tmp_path: Path) -> None:
    write_texts(tmp_path, texts())
    rows = rows_of(tmp_path, "from paired_texts where level = 1 order by example_id")
    assert [row["unpruned_generated"] for row in rows] == ["1 2 3 4 5", "1 2 1 2 1 2", "", "7"]
    # The longer text has 5, 6, 0 and 1 tokens.
    assert [row["agreement"] for row in rows] == [2 / 5, 0, 1, 0]
    # Of 3 4-grams of 3 3 3 3 3 3 two are repeated; shorter texts have none.
    assert [row["repetition"] for row in rows] == [0, pytest.approx(2 / 3), 0, 0]
    # 1212, 2121, 1212.
    assert [row["unpruned_repetition"] for row in rows] == [0, pytest.approx(1 / 3), 0, 0]
    assert {row["perplexity"] for row in rows} == {math.exp(3)}
    assert {row["unpruned_perplexity"] for row in rows} == {math.exp(2)}
    of_level_0 = rows_of(tmp_path, "select distinct agreement from paired_texts where level = 0")
    assert of_level_0 == [{"agreement": 1}]


def test_perplexity_is_a_ratio_of_sums_and_the_others_are_means(tmp_path: Path) -> None:
    rows = texts()
    rows[5]["predicted_tokens"] = 20  # one text is longer at both levels
    rows[1]["predicted_tokens"] = 20
    rows[7]["predicted_tokens"] = rows[3]["predicted_tokens"] = 0  # one has no predicted token
    rows[7]["prompt_nll"] = rows[3]["prompt_nll"] = 0.0
    write_texts(tmp_path, rows)
    metrics = {
        (row["metric"], row["level"]): row
        for row in rows_of(tmp_path, "from metrics where method is null")
    }
    perplexity = metrics["perplexity", 1]
    assert perplexity["value"] == pytest.approx(math.exp(36 / 28))
    assert metrics["perplexity", 0]["value"] == pytest.approx(math.exp(24 / 28))
    assert perplexity["n"] == 3
    assert 1 <= perplexity["ci_low"] < perplexity["value"] < perplexity["ci_high"]
    assert metrics["repetition", 1]["value"] == pytest.approx(2 / 3 / 4)
    assert metrics["generation_agreement", 1]["value"] == pytest.approx((2 / 5 + 1) / 4)
    names = "('perplexity', 'repetition', 'generation_agreement')"
    tested = rows_of(
        tmp_path, f"select metric from verdicts where metric in {names} order by metric"
    )
    assert [row["metric"] for row in tested] == ["perplexity", "repetition"]


def test_texts_of_other_tokens_are_not_compared(tmp_path: Path) -> None:
    levels = [named_level(R, 0, "base"), named_level(R, 1, "other", shares_tokens=False)]
    write_texts(tmp_path, texts(), levels=levels)
    rows = rows_of(tmp_path, "from metrics where level = 1")
    found = {row["metric"]: (row["value"], row["note"] or "") for row in rows}
    for metric in ("perplexity", "generation_agreement"):
        value, note = found[metric]
        assert value is None
        assert "tokenizer" in note
    assert found["repetition"][0] is not None


def test_a_run_without_texts_has_no_metrics_of_texts(tmp_path: Path) -> None:
    write_texts(tmp_path, [])
    assert rows_of(tmp_path, "from texts") == []
    found = rows_of(tmp_path, "select metric from metrics")
    assert {row["metric"] for row in found}.isdisjoint(
        {"perplexity", "repetition", "generation_agreement"}
    )
