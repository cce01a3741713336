"""Predictions without log-likelihoods become a run; numpy on the given rows is the oracle."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import publish
from prunelake.lake.sql.views import connect
from prunelake.recommend.recommendation import recommend
from prunelake.recommend.request import RecommendationRequest, parse_criteria
from tests.support.api.api_client import api_client
from tests.support.runs.lake_rows import rows_of
from tests.support.runs.prediction_files import BASE, CANDIDATE, COUNT, import_pair, save

UNKNOWN = ("accuracy_norm", "brier", "nll", "kl_from_unpruned")


def ece(confidence: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> float:
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs((confidence - right)[bins == b].sum()) for b in range(10)]
    return float(sum(gaps) / len(right))


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    assert import_pair(folder, BASE, CANDIDATE)[1]
    return folder / "lake"


def test_metrics_equal_numpy(lake: Path) -> None:
    metrics = {
        (row["level"], row["metric"]): row
        for row in rows_of(lake, "from metrics where variant is null")
    }
    gold = BASE["gold"].to_numpy()
    before = BASE["prediction"].to_numpy()
    for level, frame in enumerate((BASE, CANDIDATE)):
        predicted, confidence = frame["prediction"].to_numpy(), frame["confidence"].to_numpy()
        right = predicted == gold
        expected = {
            "accuracy": right.mean(),
            "ece": ece(confidence, right),
            "mean_confidence": confidence.mean(),
            "flip_rate": (predicted != before).mean(),
            "harmful_flip_rate": ((before == gold) & ~right).mean(),
            "beneficial_flip_rate": ((before != gold) & right).mean(),
            "auroc": np.mean(
                [(a > b) + 0.5 * (a == b) for a in confidence[right] for b in confidence[~right]]
            ),
        }
        for name, value in expected.items():
            row = metrics[level, name]
            assert (row["value"], row["n"]) == (pytest.approx(value, abs=1e-12), COUNT), name
        both_wrong = (before != gold) & ~right & (predicted != before)
        (flips,) = rows_of(lake, f"from flips where level = {level}")
        assert flips["neutral_rate"] == pytest.approx(both_wrong.mean())
        assert (flips["mean_kl"], flips["n"]) == (None, COUNT)
        (calibration,) = rows_of(lake, f"from calibration where level = {level}")
        assert calibration["ece"] == pytest.approx(expected["ece"])
        assert calibration["auroc"] == pytest.approx(expected["auroc"])
        assert calibration["brier"] is calibration["nll"] is None
        (accuracy,) = rows_of(lake, f"from accuracy where level = {level}")
        assert accuracy == {
            "run_id": accuracy["run_id"],
            "level": level,
            "accuracy": pytest.approx(right.mean()),
            "accuracy_norm": None,
            "n": COUNT,
        }
    assert verify_lake(lake) == []
    assert rows_of(lake, "from excluded") == []


def test_unknown_metrics_are_null_with_a_note_and_get_no_verdict(lake: Path) -> None:
    rows = rows_of(lake, "from deltas where level = 1")
    unknown = {row["metric"]: row for row in rows if row["value"] is None}
    assert {*unknown} == {*UNKNOWN}
    for row in unknown.values():
        assert row["n"] is row["delta"] is row["p_value"] is None
        assert row["note"] == "needs the log-likelihoods of all options, which the predictions lack"
    verdicts = {row["metric"]: row["verdict"] for row in rows_of(lake, "from verdicts")}
    assert {name for name, verdict in verdicts.items() if verdict is None} == {
        *UNKNOWN[:3]  # KL is never tested
    }
    recalibrated = rows_of(lake, "from recalibration")
    assert {row["value"] for row in recalibrated} == {None}
    assert {row["note"] for row in recalibrated} == {
        "calibrators need the log-likelihoods of all options, which these rows lack"
    }


def test_the_levels_have_labels_and_number_formats(lake: Path) -> None:
    levels = rows_of(lake, "select label, kind, model, dtype from levels order by level")
    assert [tuple(row.values()) for row in levels] == [
        ("fp16", "candidate", "m", "float16"),
        ("int4", "candidate", "m-int4", "int4"),
    ]
    (run,) = rows_of(lake, "select model, task, dtype, device, unit, levels from runs")
    assert [*run.values()] == ["m", "quiz", "float16", "imported", None, [0, 1]]
    (row, *_) = rows_of(lake, "from predictions where level = 1 order by example_id")
    assert row["option_log_likelihoods"] is row["option_bytes"] is row["prediction_norm"] is None


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_format_and_any_order_of_candidates_gives_the_same_run(
    tmp_path: Path, lake: Path, suffix: str
) -> None:
    run_id, _ = import_pair(tmp_path, BASE, CANDIDATE.sample(fraction=1, shuffle=True), suffix)
    assert [row["run_id"] for row in rows_of(lake, "from runs")] == [run_id]


def test_a_recommendation_leaves_explanations_out(lake: Path) -> None:
    request = RecommendationRequest(model="m", criteria=parse_criteria("accuracy,calibration"))
    with connect(lake) as connection:
        answer = recommend(connection, request).as_it_is
    (level,) = answer.candidates[0].levels
    assert level.is_tested
    assert [check.n for check in level.checks] == [COUNT, COUNT]


def test_predictions_without_confidence_have_accuracy_and_flips_only(tmp_path: Path) -> None:
    import_pair(tmp_path, BASE.drop("confidence"), CANDIDATE)
    rows = rows_of(tmp_path / "lake", "from deltas where level = 1 and variant is null")
    known = {row["metric"] for row in rows if row["delta"] is not None}
    assert known == {"accuracy", "flip_rate", "harmful_flip_rate", "beneficial_flip_rate"}
    notes = {row["metric"]: row["note"] for row in rows}
    assert notes["ece"] == "needs a confidence, which the predictions of level 0 lack"
    assert notes["brier_calibration"] == notes["mean_confidence"] == notes["ece"]
    (calibration,) = rows_of(tmp_path / "lake", "from calibration where level = 0")
    assert (calibration["ece"], calibration["auroc"], calibration["n"]) == (None, None, 0)


def test_a_row_without_a_prediction_is_excluded_from_metrics(tmp_path: Path) -> None:
    empty = pl.when(pl.col("id") == "q3").then(None).otherwise("prediction").alias("prediction")
    import_pair(tmp_path, BASE, CANDIDATE.with_columns(empty))
    lake = tmp_path / "lake"
    excluded = rows_of(lake, "select level, example_id, reason from excluded")
    assert [tuple(row.values()) for row in excluded] == [(1, "q3", "no prediction")]
    (row,) = rows_of(lake, "select n from deltas where level = 1 and metric = 'accuracy'")
    assert row["n"] == COUNT - 1


def test_correct_replaces_gold_and_correct_answers_count_as_equal(tmp_path: Path) -> None:
    base = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "prediction": ["4", "five", "6", "7"],
            "correct": [True, True, False, False],
        }
    )
    candidate = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "prediction": ["4.0", "six", "60", "7"],
            "correct": [True, False, False, False],
        }
    )
    import_pair(tmp_path, base, candidate)
    pairs = rows_of(
        tmp_path / "lake", "select * from paired_predictions where level = 1 order by example_id"
    )
    kinds = [(row["is_flip"], row["flip_kind"], row["is_correct"]) for row in pairs]
    assert kinds == [
        (False, None, True),
        (True, "harmful", False),
        (True, "neutral", False),
        (False, None, False),
    ]
    examples = rows_of(tmp_path / "lake", "from examples order by position")
    assert [row["gold"] for row in examples] == [0, 0, None, None]
    assert examples[1]["options"] == ["five", "six"]


@pytest.mark.parametrize("answers", [["no", "yes"], ["A", "B"], ["0", "1"]])
def test_an_answer_is_the_text_letter_or_number_of_an_option(
    tmp_path: Path, answers: list[str]
) -> None:
    frame = pl.DataFrame(
        {
            "id": ["a", "b"],
            "prediction": answers,
            "gold": [answers[1]] * 2,
            "options": [["no", "yes"]] * 2,
            "prompt": ["Is it?", "Is it not?"],
        }
    )
    import_pair(tmp_path, frame, frame, ".parquet")
    rows = rows_of(tmp_path / "lake", "from predictions where level = 1 order by example_id")
    assert [(row["prediction"], row["gold"]) for row in rows] == [(0, 1), (1, 1)]
    (example, *_) = rows_of(tmp_path / "lake", "from examples order by position")
    assert (example["options"], example["prompt"]) == (["no", "yes"], "Is it?")


def test_a_count_of_options_names_options_that_no_answer_names(tmp_path: Path) -> None:
    frame = BASE.head(8).with_columns(option_count=pl.lit(5))
    import_pair(tmp_path, frame, frame)
    (example, *_) = rows_of(tmp_path / "lake", "from examples")
    assert example["options"] == ["A", "B", "C", "D", "E"]


def test_the_command_names_columns_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        save(tmp_path, name, frame.rename({"prediction": "answer"}))
        for name, frame in (("base", BASE), ("candidate", CANDIDATE))
    ]
    command = ["prunelake", "import", "predictions", "--task", "quiz", "--model", "m"]
    command += ["--baseline", f"fp16={files[0]}", "--candidate", f"int4={files[1]},dtype=int4"]
    command += ["--column", "prediction=answer", "--lake", str(tmp_path / "lake")]
    for expected in ("fp16 is the baseline, on 60 rows of quiz", "is in the lake already"):
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit, match="0"):
            main()
        assert expected in capsys.readouterr().out
    (row,) = rows_of(tmp_path / "lake", "select label, model, dtype from levels where level = 1")
    assert [*row.values()] == ["int4", "m", "int4"]


def test_the_api_shows_an_example_without_a_prompt(lake: Path) -> None:
    publish(lake, analyse)
    with api_client(lake) as client:
        (run,) = rows_of(lake, "select run_id from runs")
        listed = client.get(f"/examples/{run['run_id']}?level=1&limit=1").json()["examples"]
        assert (listed[0]["prompt"], listed[0]["is_explained"]) == (None, False)
        name = listed[0]["example_id"]
        shown = client.get(f"/examples/{run['run_id']}/{name}?level=1").json()
    assert shown["prompt"] is shown["unpruned"]["probabilities"] is None
    assert shown["unpruned"]["confidence"] == BASE.filter(id=name)["confidence"].item()
