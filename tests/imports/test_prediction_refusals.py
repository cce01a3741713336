"""Files of predictions that are refused, with the file, the row and the remedy."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.errors import PruneLakeError
from prunelake.imports.imported_run import LabelledFile
from prunelake.imports.prediction_file import PredictionColumns
from prunelake.imports.predictions import import_predictions
from tests.support.runs.prediction_files import (
    BASE,
    CANDIDATE,
    COUNT,
    Change,
    at,
    import_pair,
    save,
)


def test_an_answer_that_is_no_option_is_refused_with_its_file(tmp_path: Path) -> None:
    frame = BASE.head(8).with_columns(options=pl.lit(["w", "x", "y", "z"]))
    other = frame.with_columns(at(2, prediction="E")(frame)["prediction"])
    with pytest.raises(PruneLakeError, match=r"candidate.parquet, id 'q2': prediction 'E' is no"):
        import_pair(tmp_path, frame, other, ".parquet")
    short = frame.with_columns(option_count=pl.lit(3)).drop("options")
    with pytest.raises(PruneLakeError, match=r"base.csv, id 'q3': (prediction|gold) 'D' is no opt"):
        import_pair(tmp_path, short, short)


def of_gold(**columns: Any) -> Change:
    return lambda frame: frame.with_columns(**columns)


REFUSED: dict[str, tuple[Change, str]] = {
    "other ids": (
        at(3, id="x"),
        "candidate.* lacks 1 of the 60 ids of .*base.*, the first is 'q3'",
    ),
    "fewer rows": (lambda frame: frame.head(50), "candidate.* lacks 10 of the 60 ids of .*base"),
    "more rows": (
        lambda frame: pl.concat([frame, frame.head(1).with_columns(id=pl.lit("x"))]),
        "base.* lacks 1 of the 61 ids of .*candidate.*, the first is 'x'",
    ),
    "the same id": (at(3, id="q1"), r"row 3 \(id 'q1'\): the id appears twice, first in row 1"),
    "no id": (at(3, id=None), "row 3: no id"),
    "no gold": (at(2, gold=None), r"row 2 \(id 'q2'\): no gold; every row needs"),
    "another gold": (at(3, gold="A"), "id 'q3': gold 'A' instead of 'D' as in .*base"),
    "above 1": (at(2, confidence=1.5), r"row 2 \(id 'q2'\): confidence 1.5 .* write 0.015"),
    "below 0": (at(2, confidence=-0.5), "confidence -0.5 is not a probability from 0 to 1; leave"),
    "nan": (at(2, confidence=float("nan")), r"row 2.* confidence.*(nan|NaN)"),
    "contradiction": (
        lambda frame: frame.with_columns(correct=pl.col("prediction") != pl.col("gold")),
        "id 'q0': correct is (True|False), but the prediction is '[A-D]' and the gold answer 'A'",
    ),
    "no predictions": (of_gold(prediction=pl.lit(None, pl.String)), "has no prediction in any row"),
    "no rows": (lambda frame: frame.clear(), "has no rows|lacks"),
    "no column": (
        lambda frame: frame.drop("prediction"),
        "no column 'prediction'; it has id, gold",
    ),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_file_is_refused_and_leaves_no_lake(
    tmp_path: Path, change: Change, message: str, suffix: str
) -> None:
    with pytest.raises(PruneLakeError, match=message):
        import_pair(tmp_path, BASE, change(CANDIDATE), suffix)
    assert not (tmp_path / "lake").exists()


LINE = {"id": "q0", "prediction": "A", "gold": "A", "confidence": 0.5}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            LINE | {"confidence": "0.5"},
            "row 1, column confidence: '0.5'; write a number .*not text",
        ),
        (LINE | {"confidence": True}, "column confidence: True; write a number"),
        (
            LINE | {"prediction": 1.5},
            "row 1, column prediction: 1.5; write a text or a whole number",
        ),
        (LINE | {"gold": ["A"]}, r"column gold: \['A'\]; write a text"),
        (LINE | {"options": "A"}, "column options: 'A'; write a list of texts"),
        (LINE | {"option_count": 1}, "column option_count: 1; write the number of options"),
        (LINE | {"correct": "true"}, "column correct: 'true'; write true or false"),
        ([1], r"row 1: \[1\] is not a JSON object"),
    ],
)
def test_a_wrong_value_in_json_is_refused_with_its_row(
    tmp_path: Path, line: Any, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(LINE)}\n{json.dumps(line)}\n", "utf-8")
    files = LabelledFile("a", path), [LabelledFile("b", path)]
    with pytest.raises(PruneLakeError, match=message):
        import_predictions(tmp_path / "lake", *files, "quiz", "m")


def test_predictions_and_gold_answers_of_different_forms_are_refused(tmp_path: Path) -> None:
    numbered = BASE.with_columns(gold=pl.Series(list(range(COUNT))) % 4)
    with pytest.raises(
        PruneLakeError, match=r"predictions are like '[A-D]', gold answers like '0'"
    ):
        import_pair(tmp_path, numbered, numbered)


def test_labels_are_distinct_and_printable(tmp_path: Path) -> None:
    path = save(tmp_path, "base", BASE)
    for label, message in (("a", "label 'a': give every level a name"), ("b\n", "line break")):
        files = LabelledFile("a", path), [LabelledFile(label, path)]
        with pytest.raises(PruneLakeError, match=message):
            import_predictions(tmp_path / "lake", *files, "quiz", "m", PredictionColumns())
