"""Details of lighteval in both layouts: small files of the structure that its loggers write."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.cli.app import main
from prunelake.errors import BadRow, InvalidSpec
from prunelake.imports.imported_run import LabelledFile
from prunelake.imports.lighteval import import_lighteval, read_lighteval
from tests.support.runs.lake_rows import rows_of

DATE = "2026-01-02T03-04-05.678901"
NAME = f"details_leaderboard|arc:challenge|0_{DATE}.parquet"
QUESTIONS = [("Is it?", [" no", " yes"], 1), ("Who?", [" Ann", " Bob", " Cyrus"], 0)]
SCORES = [[-2.0, -1.0], [-1.5, -3.5, -0.5]]

Row = dict[str, Any]


def new_rows(scores: list[list[float]] = SCORES) -> list[Row]:
    """The rows of lighteval 0.10 and later."""
    return [
        {
            "doc": {
                "choices": choices,
                "fewshot_samples": [],
                "gold_index": [gold],
                "id": str(place),
                "instruction": None,
                "query": question,
                "task_name": "leaderboard|arc:challenge|0",
            },
            "metric": {"acc": int(max(values) == values[gold]), "acc_norm": 1},
            "model_response": {"input": question, "logprobs": values, "text": []},
        }
        for place, ((question, choices, gold), values) in enumerate(
            zip(QUESTIONS, scores, strict=True)
        )
    ]


def older_rows(scores: list[list[float]] = SCORES) -> list[Row]:
    """The rows of lighteval 0.6: every value is the text of a Python value."""
    return [
        {
            "choices": str(choices),
            "example": question,
            "full_prompt": question,
            "gold": "[]",
            "gold_index": str([gold]),
            "metrics": str({"acc": int(max(values) == values[gold]), "other": math.nan}),
            "predictions": str([(value, False) for value in values]),
            "specifics": "None",
        }
        for (question, choices, gold), values in zip(QUESTIONS, scores, strict=True)
    ]


def native_rows() -> list[Row]:
    """The flat rows of versions that kept the types of values."""
    return [
        {name: row[name] for name in ("example", "full_prompt")}
        | {"choices": choices, "gold_index": [gold], "predictions": values}
        | {"metrics": {"acc": float(max(values) == values[gold])}}
        for row, (_, choices, gold), values in zip(older_rows(), QUESTIONS, SCORES, strict=True)
    ]


def save(folder: Path, rows: list[Row], config: Mapping[str, Any] | None = None) -> Path:
    """Details as lighteval places them, with the results beside them if there is a config."""
    details = folder / "details" / "org" / "tiny" / DATE
    details.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, strict=False).write_parquet(details / NAME)
    if config is not None:
        results = folder / "results" / "org" / "tiny"
        results.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"config_general": config, "results": {}})
        (results / f"results_{DATE}.json").write_text(text, "utf-8")
    return details / NAME


NEW_CONFIG = {"model_name": "org/tiny", "model_config": {"dtype": "float16", "revision": "r1"}}
OLDER_CONFIG = {"model_name": "org/tiny", "model_dtype": "torch.float16", "model_sha": "r1"}


@pytest.mark.parametrize(
    ("rows", "config"),
    [(new_rows(), NEW_CONFIG), (older_rows(), OLDER_CONFIG), (native_rows(), OLDER_CONFIG)],
    ids=["new", "older", "native"],
)
def test_both_layouts_give_the_same_log(
    tmp_path: Path, rows: list[Row], config: Mapping[str, Any]
) -> None:
    log = read_lighteval(save(tmp_path, rows, config))
    assert (log.task, log.model, log.revision, log.dtype) == (
        "leaderboard|arc:challenge|0",
        "org/tiny",
        "r1",
        "float16",
    )
    assert [sample.log_likelihoods for sample in log.samples] == [*map(tuple, SCORES)]
    assert [sample.example.gold for sample in log.samples] == [1, 0]
    assert [sample.example.prompt for sample in log.samples] == ["Is it?", "Who?"]
    assert [sample.example.example_id for sample in log.samples] == ["doc:0", "doc:1"]
    assert log.samples[1].option_bytes == (3, 3, 5)
    assert log.samples[1].example.options == (" Ann", " Bob", " Cyrus")


def test_the_model_matches_the_folder_without_results(tmp_path: Path) -> None:
    log = read_lighteval(save(tmp_path, new_rows()).parent)
    assert (log.model, log.dtype) == ("org/tiny", "")


def test_candidates_are_compared(tmp_path: Path) -> None:
    base = save(tmp_path / "base", new_rows(), NEW_CONFIG)
    other = save(tmp_path / "other", new_rows([[-1.0, -2.0], SCORES[1]]), NEW_CONFIG)
    files = [LabelledFile("fp16", base), LabelledFile("int8", other, dtype="int8")]
    assert import_lighteval(tmp_path / "lake", files)[1]
    (flips,) = rows_of(tmp_path / "lake", "from flips where level = 1")
    assert (flips["harmful_rate"], flips["flip_rate"], flips["n"]) == (0.5, 0.5, 2)
    assert flips["mean_kl"] > 0
    levels = rows_of(tmp_path / "lake", "select label, dtype from levels order by level")
    assert [tuple(row.values()) for row in levels] == [("fp16", "float16"), ("int8", "int8")]


def test_an_impossible_option_excludes_its_row(tmp_path: Path) -> None:
    rows = older_rows([[-math.inf, -1.0], SCORES[1]])
    log = read_lighteval(save(tmp_path, rows))
    assert log.samples[0].log_likelihoods == (-math.inf, -1.0)
    assert log.samples[0].confidence is None


def test_log_likelihoods_without_the_question_are_left_out(tmp_path: Path) -> None:
    rows = new_rows()
    for row in rows:
        row["model_response"]["logprobs"] = row["model_response"]["logprobs"] * 2
    log = read_lighteval(save(tmp_path, rows))
    assert [sample.log_likelihoods for sample in log.samples] == [*map(tuple, SCORES)]


def of_doc(**fields: Any) -> Callable[[], list[Row]]:
    def change() -> list[Row]:
        rows = new_rows()
        rows[0]["doc"] |= fields
        return rows

    return change


def with_scores(*values: float) -> Callable[[], list[Row]]:
    def change() -> list[Row]:
        rows = new_rows()
        rows[0]["model_response"]["logprobs"] = [*values]
        return rows

    return change


def older_with(**fields: str) -> Callable[[], list[Row]]:
    return lambda: [older_rows()[0] | fields]


REFUSED: dict[str, tuple[Callable[[], list[Row]], str]] = {
    "two right": (of_doc(gold_index=[0, 1]), "row 0, gold_index: .*at most 1.*one right option"),
    "no choices": (of_doc(choices=[]), "row 0, choices: .*at least 2"),
    "generated": (with_scores(), "row 0: 0 log-likelihoods for 2 choices"),
    "too few": (with_scores(-1.0), "row 0: 1 log-likelihoods for 2 choices"),
    "no such choice": (of_doc(gold_index=[2]), "row 0: gold_index 2 is none of 2 choices"),
    "the same choices": (of_doc(choices=["a", " a"]), "row 0: all 2 choices are 'a'"),
    "an empty choice": (of_doc(choices=["", "a"]), "row 0: a choice is empty"),
    "contradiction": (with_scores(-1.0, -2.0), "row 0: acc is 1, but .* predict option 0"),
    "a probability": (with_scores(0.3, -2.0), "row 0, log_likelihoods.0: 0.3 is no log-likelihood"),
    "nan": (older_with(predictions="[(nan, True), (-1.0, False)]"), "row 0, log_likelihoods.0"),
    "no Python": (older_with(choices="[' no', "), "row 0, SyntaxError"),
    "a call": (older_with(choices="print(1)"), "row 0, ValueError: malformed"),
    "other columns": (lambda: [{"id": 1}], "no details of lighteval; it has the columns id"),
}


@pytest.mark.parametrize(("rows", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_other_details_are_refused(
    tmp_path: Path, rows: Callable[[], list[Row]], message: str
) -> None:
    with pytest.raises(BadRow, match=message):
        import_lighteval(tmp_path / "lake", {0: save(tmp_path, rows())})
    assert not (tmp_path / "lake").exists()


def test_a_folder_with_several_tasks_needs_the_task(tmp_path: Path) -> None:
    path = save(tmp_path, new_rows())
    path.with_name(NAME.replace("arc:challenge", "boolq")).write_bytes(path.read_bytes())
    with pytest.raises(InvalidSpec, match=r"arc.*boolq.*give one of the files, or --task"):
        read_lighteval(tmp_path)
    assert read_lighteval(tmp_path, "leaderboard|boolq|0").task == "leaderboard|boolq|0"
    with pytest.raises(InvalidSpec, match=r"no details_rte_<date>.parquet; found details_"):
        read_lighteval(tmp_path, "rte")
    with pytest.raises(InvalidSpec, match="no file or folder"):
        read_lighteval(tmp_path / "none")


def test_the_command_imports_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, new_rows())
    command = ["prunelake", "import", "lighteval", str(path), "--lake", str(tmp_path / "lake")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "tiny on leaderboard|arc:challenge|0" in capsys.readouterr().out
