import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake import views
from prunelake.publish import publish
from tests.lake_rows import example, identity_of, prediction, run_row, write
from tests.level_rows import explained_run

GUIDE = (Path(__file__).parents[1] / "docs" / "analyst.md").read_text(encoding="utf-8")
QUESTIONS = {
    int(number): sql
    for number, sql in re.findall(r"^### (\d+)\. .*?^```sql\n(.*?)^```", GUIDE, re.DOTALL | re.M)
}
DROPS = {
    ("kernel_shap", "delete_text"): 0.5,
    ("lime", "replace"): 0.375,
    ("random", "delete_text"): 0.25,
    ("random", "replace"): 0.25,
}
SURE = [0.99, 0.9, 0.8, 0.7, 0.65, 0.6]
RIGHT = [True, False, True, True, False, True]


@dataclass(frozen=True)
class Sources:
    lake: Path
    live: duckdb.DuckDBPyConnection
    snapshot: duckdb.DuckDBPyConnection
    answers: dict[int, pl.DataFrame]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    """Two strategies of one model, and a run of predictions whose confidences are spread out."""
    lake = tmp_path_factory.mktemp("analyst") / "lake"
    explained_run(lake, "by cosine", DROPS)
    explained_run(lake, "at random", DROPS, strategy="random:0")
    run = run_row("spread", task="spread", levels=[0], example_count=len(SURE))
    run_id = str(run["run_id"])
    write(
        lake,
        run,
        examples=[example(run_id, f"test:{i}", position=i) for i in range(len(SURE))],
        predictions=[
            prediction(run_id, 0, f"test:{i}", np.log([p, 1 - p]).tolist(), gold=int(not is_right))
            for i, (p, is_right) in enumerate(zip(SURE, RIGHT, strict=True))
        ],
    )
    with (
        views.connect(lake) as live,
        duckdb.connect(publish(lake), read_only=True) as snapshot,
    ):
        answers = {number: views.select(live, sql) for number, sql in QUESTIONS.items()}
        yield Sources(lake, live, snapshot, answers)


def answer(sources: Sources, number: int, name: str | None = None) -> list[dict[str, Any]]:
    """The rows that answer a question, or those of one run."""
    rows = sources.answers[number]
    return (rows if name is None else rows.filter(run_id=identity_of(name)[1])).to_dicts()


def test_twenty_questions_hold_every_sql_block() -> None:
    assert list(QUESTIONS) == list(range(1, 21))
    assert GUIDE.count("```sql\n") == 20


@pytest.mark.parametrize("number", list(QUESTIONS))
def test_a_question_has_the_same_answer_from_files_and_snapshot(
    sources: Sources, number: int
) -> None:
    found = sources.answers[number]
    assert not found.is_empty()
    assert_frame_equal(found, views.select(sources.snapshot, QUESTIONS[number]))


def test_the_table_names_every_view_with_its_grain_and_columns_it_has(sources: Sources) -> None:
    described = views.describe(sources.live).to_dicts()
    listed = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", GUIDE, re.M)
    assert {view: grain for view, grain, _ in listed} == {
        row["view"]: re.split("[:.]", row["comment"])[0] for row in described
    }
    assert len(listed) == len(described)
    columns = {row["view"]: {column["name"] for column in row["columns"]} for row in described}
    for view, _, named in listed:
        assert set(re.findall(r"`(\w+)`", named)) - {"_delta"} <= columns[view], view


def test_the_python_of_the_guide_runs_beside_the_lake(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sources.lake.parent)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.M):
        exec(block, names)
    by = ["run_id", "level", "example_id"]
    assert_frame_equal(
        names["summary"].sort("run_id", "level"),
        views.query(sources.lake, "from summary order by run_id, level"),
    )
    assert_frame_equal(
        names["predictions"].sort(by),
        views.query(sources.lake, f"from lake.predictions order by {', '.join(by)}"),
    )


def test_accuracy_holds_up_to_level_1_where_ece_has_risen(sources: Sources) -> None:
    # Accuracies 0.75, 0.75, 0.5; the confidence is 1 / (1 + exp(-1 - level)) throughout.
    (kept,) = answer(sources, 1, "by cosine")
    assert kept["last_level"] == 1
    hidden = {row["metric"]: row for row in answer(sources, 2) if row["strategy"] == "cosine"}
    assert {"ece", "comprehensiveness"} <= set(hidden)
    assert {row["level"] for row in hidden.values()} == {1}
    assert hidden["ece"]["unpruned_value"] == pytest.approx(0.75 - 1 / (1 + np.exp(-1)))
    assert hidden["ece"]["value"] == pytest.approx(1 / (1 + np.exp(-2)) - 0.75)


def test_levels_after_the_first_loss_do_not_count_as_kept(tmp_path: Path) -> None:
    run = run_row(levels=[0, 1, 2, 3], example_count=1)
    run_id = str(run["run_id"])
    options = {0: [-1.0, -2.0], 1: [-1.0, -2.0], 2: [-2.0, -1.0], 3: [-1.0, -2.0]}
    write(
        tmp_path,
        run,
        examples=[example(run_id, "test:0")],
        predictions=[prediction(run_id, level, "test:0", o) for level, o in options.items()],
    )
    found = views.query(tmp_path, QUESTIONS[1])
    assert found["last_level"].to_list() == [1]


def test_the_example_that_flips_harmfully_and_its_tokens(sources: Sources) -> None:
    (flipped,) = answer(sources, 12, "by cosine")
    assert flipped["example_id"] == "test:1"
    assert (flipped["first_level"], flipped["harmful_levels"]) == (2, 1)
    assert flipped["right_option"] == "no"
    rows = answer(sources, 13, "by cosine")
    assert [(row["example_id"], row["level"], row["method"]) for row in rows] == [
        ("test:1", 2, "kernel_shap"),
        ("test:1", 2, "lime"),
    ]
    # Scores 0.5, -0.25 x level, 0.1.
    assert rows[0]["unpruned_tokens"] == ["Is", "?", " it"]
    assert rows[0]["tokens"] == ["Is", "?", " it"]
    assert (rows[0]["unpruned_prediction"], rows[0]["prediction"]) == (0, 1)


def test_faithfulness_and_its_curve(sources: Sources) -> None:
    beaten = {
        (row["level"], row["method"], row["kind"]): row["advantage"]
        for row in answer(sources, 7, "by cosine")
    }
    assert beaten[0, "kernel_shap", "comprehensiveness"] == pytest.approx(0.25)
    assert beaten[2, "lime", "comprehensiveness"] == pytest.approx(0.125)
    curve = [
        (row["level"], row["fraction"], row["mean_drop"], row["n"])
        for row in answer(sources, 9, "by cosine")
        if (row["method"], row["kind"]) == ("kernel_shap", "comprehensiveness")
    ]
    assert curve == [
        (level, fraction, pytest.approx(0.5 - 0.125 * level), 2)
        for level in (0, 1, 2)
        for fraction in (0.1, 0.2)
    ]
    pivoted = {
        (row["metric"], row["method"]): [row[f"level_{level}"] for level in (0, 1, 2)]
        for row in answer(sources, 8, "by cosine")
    }
    assert pivoted["comprehensiveness", "lime"] == pytest.approx([0, -0.125, -0.25])


def test_strategies_are_paired_once_a_level(sources: Sources) -> None:
    rows = answer(sources, 17)
    assert [(row["level"], row["strategy"], row["other_strategy"]) for row in rows] == [
        (1, "cosine", "random:0"),
        (2, "cosine", "random:0"),
    ]


def test_layers_stand_in_their_order_of_removal(sources: Sources) -> None:
    rows = [row for row in answer(sources, 16) if row["strategy"] == "cosine"]
    assert [(row["rank"], row["layer"], row["depth"]) for row in rows] == [(0, 1, 1.0), (1, 0, 0.0)]


def test_new_metrics_are_those_that_numpy_computes(sources: Sources) -> None:
    (found,) = answer(sources, 20, "spread")
    confidence, is_right = np.array(SURE), np.array(RIGHT)
    bins = np.minimum(np.floor(confidence * 15), 14)
    ece = sum(
        abs(is_right[bins == b].sum() - confidence[bins == b].sum()) for b in np.unique(bins)
    ) / len(SURE)
    assert found["ece_15"] == pytest.approx(ece)
    assert found["confidence_when_wrong"] == pytest.approx(confidence[~is_right].mean())
    assert found["accuracy_of_surer_half"] == pytest.approx(is_right[:3].mean())


def test_the_cost_of_a_run_is_spread_over_its_examples_and_levels(sources: Sources) -> None:
    costs = {row["task"]: row["tokens_an_example_and_level"] for row in answer(sources, 19)}
    assert costs == {"demo": pytest.approx(100 / (4 * 3)), "spread": pytest.approx(100 / 6)}
    assert pl.DataFrame(answer(sources, 19))["tokens_a_second"].to_list() == [100 / 1.5] * 3
