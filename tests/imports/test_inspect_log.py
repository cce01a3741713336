"""A real log of inspect_ai 0.3.285 with prescribed answers, and damaged copies of it.

Its four samples: answer A; answer C where B is right; answer A without the log-probability of B;
and no answer.
"""

import json
import math
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelake.cli.app import main
from prunelake.errors import BadRow, InvalidSpec
from prunelake.imports.imported_run import LabelledFile
from prunelake.imports.inspect_log import archive_members, import_inspect, read_inspect
from prunelake.lake.maintenance.verify import verify_lake
from tests.support.runs.lake_rows import rows_of

LOG = Path(__file__).parent / "data" / "inspect" / "mini.eval"

Content = dict[str, Any]


def content() -> Content:
    """The log as inspect_ai writes it with the log format json."""
    members = {name: json.loads(data) for name, data in archive_members(LOG)}
    return {**members.pop("header.json"), "samples": [*members.values()]}


def save(folder: Path, log: Any) -> Path:
    path = folder / "log.json"
    path.write_text(json.dumps(log), "utf-8")
    return path


def test_the_options_are_letters_at_the_position_of_the_answer(tmp_path: Path) -> None:
    run_id, is_new = import_inspect(tmp_path, {0: LOG})
    assert is_new
    rows = rows_of(tmp_path, "select * from predictions order by example_id")
    assert [row["option_log_likelihoods"] for row in rows] == [
        [-0.2, -1.9],
        [-3.0, -1.6, -0.3],
        None,
        None,
    ]
    assert [row["example_id"] for row in rows] == [f"sample:{i}" for i in (1, 2, 3, 4)]
    assert [row["gold"] for row in rows] == [0, 1, 0, 1]
    assert [row["prediction"] for row in rows] == [0, 2, 0, None]
    assert [row["is_correct"] for row in rows] == [True, False, True, False]
    assert [row["confidence"] for row in rows] == [
        pytest.approx(1 / (1 + math.exp(-1.7))),
        pytest.approx(1 / (1 + math.exp(-1.3) + math.exp(-2.7))),
        None,
        None,
    ]
    (run,) = rows_of(tmp_path, "select * from runs")
    assert (run["run_id"], run["model"], run["task"]) == (run_id, "mockllm/model", "mini")
    assert (run["split"], run["dtype"], run["architecture"]) == ("", "", "")
    (example, *_) = rows_of(tmp_path, "select * from examples order by position")
    assert example["options"] == [" A", " B"]
    assert example["prompt"].endswith("What do bees make?\n\nA) honey\nB) paper")


def test_samples_without_log_likelihoods_are_excluded_from_metrics(tmp_path: Path) -> None:
    import_inspect(tmp_path, {0: LOG})
    excluded = rows_of(tmp_path, "select example_id, reason from excluded order by example_id")
    assert [row["example_id"] for row in excluded] == ["sample:3", "sample:4"]
    assert {row["reason"] for row in excluded} == {"a log-likelihood is infinite or missing"}
    (accuracy,) = rows_of(tmp_path, "select accuracy, accuracy_norm, n from accuracy")
    assert accuracy == {"accuracy": 0.5, "accuracy_norm": 0.5, "n": 2}
    (calibration,) = rows_of(tmp_path, "select nll, n from calibration")
    nll = math.log(1 + math.exp(-1.7)) + 1.3 + math.log(1 + math.exp(-1.3) + math.exp(-2.7))
    assert calibration == {"nll": pytest.approx(nll / 2), "n": 2}
    assert verify_lake(tmp_path) == []


def test_a_sample_with_an_impossible_letter_is_excluded_from_metrics(tmp_path: Path) -> None:
    log = content()
    top = log["samples"][0]["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top[1]["logprob"] = -math.inf
    import_inspect(tmp_path / "lake", {0: save(tmp_path, log)})
    excluded = rows_of(tmp_path / "lake", "select example_id from excluded order by example_id")
    assert [row["example_id"] for row in excluded] == [f"sample:{i}" for i in (1, 3, 4)]
    (row, *_) = rows_of(tmp_path / "lake", "select * from lake.predictions order by example_id")
    assert (row["option_log_likelihoods"], row["prediction"]) == ([-0.2, -math.inf], 0)


def test_the_accuracy_of_complete_samples_equals_the_log(tmp_path: Path) -> None:
    log = content()
    log["samples"] = log["samples"][:2]
    import_inspect(tmp_path / "lake", {0: save(tmp_path, log)})
    (accuracy,) = rows_of(tmp_path / "lake", "select accuracy from accuracy")
    scored = [sample["scores"]["choice"]["value"] == "C" for sample in log["samples"]]
    assert accuracy["accuracy"] == sum(scored) / len(scored)


def test_both_formats_and_any_order_give_the_same_run(tmp_path: Path) -> None:
    log = content()
    log["samples"].reverse()
    run_id, _ = import_inspect(tmp_path / "lake", {0: LOG})
    assert import_inspect(tmp_path / "lake", {0: save(tmp_path, log)}) == (run_id, False)
    plain = tmp_path / "plain.eval"
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in archive_members(LOG):
            archive.writestr(name, data)
    assert import_inspect(tmp_path / "lake", {0: plain}) == (run_id, False)


def test_levels_are_compared_with_the_unpruned_model(tmp_path: Path) -> None:
    log = content()
    top = log["samples"][0]["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top[1]["logprob"] = -1.2
    import_inspect(tmp_path / "lake", {0: LOG, 4: save(tmp_path, log)}, "m", "cosine")
    pairs = rows_of(tmp_path / "lake", "select * from paired_predictions where level = 4")
    assert len(pairs) == 2
    moved = rows_of(tmp_path / "lake", "select mean_kl, n from flips where level = 4")
    assert moved[0]["mean_kl"] > 0
    log["samples"][1]["choices"][0] = "a fire"
    with pytest.raises(InvalidSpec, match="sample:2 is the first that differs, in its row hash: "):
        import_inspect(tmp_path / "lake", {0: LOG, 4: save(tmp_path, log)})


def test_candidates_have_labels_and_settings_that_the_log_lacks(tmp_path: Path) -> None:
    log = content()
    log["eval"]["model"] = "mockllm/other"
    files = [
        LabelledFile("fp16", LOG, dtype="float16"),
        LabelledFile("int4", save(tmp_path, log), dtype="int4", revision="r1"),
    ]
    import_inspect(tmp_path / "lake", files)
    levels = rows_of(
        tmp_path / "lake", "select label, model, revision, dtype from levels order by level"
    )
    assert [tuple(row.values()) for row in levels] == [
        ("fp16", "mockllm/model", "", "float16"),
        ("int4", "mockllm/other", "r1", "int4"),
    ]


def test_a_level_with_fewer_samples_is_refused(tmp_path: Path) -> None:
    log = content()
    del log["samples"][-1]
    path = save(tmp_path, log)
    for logs, message in (
        ({0: LOG, 1: path}, rf"{path.name} has 3 examples, .*{LOG.name} has 4"),
        ({0: path, 1: LOG}, rf"{LOG.name} has 4 examples, .*{path.name} has 3"),
    ):
        with pytest.raises(InvalidSpec, match=message):
            import_inspect(tmp_path / "lake", logs)
    assert not (tmp_path / "lake").exists()


def test_a_difference_counts_only_samples_of_both_levels(tmp_path: Path) -> None:
    log = content()
    # Sample 1, which level 0 gets right, has no log-probabilities at level 2.
    log["samples"][0]["output"]["choices"][0]["logprobs"] = None
    run_id, _ = import_inspect(tmp_path / "lake", {0: LOG, 2: save(tmp_path, log)})
    excluded = rows_of(tmp_path / "lake", "select * from excluded where level = 2")
    assert "sample:1" in {row["example_id"] for row in excluded}
    (row,) = rows_of(
        tmp_path / "lake",
        "select value, n, paired_n, unpruned_value, delta from lake.metrics "
        f"where run_id = '{run_id}' and level = 2 and metric = 'accuracy'",
    )
    # Only sample 2, which is wrong at both levels.
    assert row == {"value": 0, "n": 1, "paired_n": 1, "unpruned_value": 0, "delta": 0}


def test_the_command_prints_the_excluded_samples_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prunelake", "import", "inspect", str(LOG), "--lake", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out.endswith(
        "Excluded at level 0: 2 examples, a log-likelihood is infinite or missing "
        "(view excluded).\n"
    )


def of_sample(number: int, **fields: Any) -> Callable[[Content], Content]:
    def change(log: Content) -> Content:
        log["samples"][number] |= fields
        return log

    return change


def of_log(**fields: Any) -> Callable[[Content], Content]:
    return lambda log: log | fields


def no_logprobs(log: Content) -> Content:
    for sample in log["samples"]:
        for choice in sample["output"]["choices"]:
            choice.pop("logprobs", None)
    return log


def likelier_other(log: Content) -> Content:
    top = log["samples"][0]["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top[1]["logprob"] = -0.1
    return log


def nan(log: Content) -> Content:
    top = log["samples"][0]["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top[1]["logprob"] = math.nan
    return log


def logprob_as_text(log: Content) -> Content:
    top = log["samples"][0]["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top[1]["logprob"] = "-1.9"
    return log


def probability(log: Content) -> Content:
    top = log["samples"][0]["output"]["choices"][0]["logprobs"]["content"][-1]["top_logprobs"]
    top[1]["logprob"] = 0.3
    return log


def no_field(name: str) -> Callable[[Content], Content]:
    def change(log: Content) -> Content:
        del log["samples"][0][name]
        return log

    return change


def second_epoch(log: Content) -> Content:
    log["samples"].append(log["samples"][0] | {"epoch": 2})
    return log


REFUSED: dict[str, tuple[Callable[[Content], Any], str]] = {
    "no log-probabilities": (no_logprobs, "no sample has .* --logprobs --top-logprobs 20"),
    "no samples": (of_log(samples=[]), "has no samples"),
    "unfinished": (of_log(status="error"), "status 'error'"),
    "no header": (of_log(eval=None), "is not a log of inspect_ai"),
    "a list": (lambda log: [log], "is not a log of inspect_ai"),
    "no choices": (of_sample(0, choices=None), "sample 0, choices: .*multiple-choice task"),
    "one choice": (of_sample(0, choices=["honey"]), "sample 1: 1 choices"),
    "the same choices": (of_sample(0, choices=["x", "x "]), "sample 1: all 2 choices are 'x'"),
    "two right": (of_sample(0, target=["A", "B"]), "sample 1: target 'A,B' is not one letter"),
    "no such letter": (of_sample(0, target="D"), "sample 1: target 'D' is not one letter of AB"),
    "unscored": (of_sample(0, scores={}), "sample 1: no score"),
    "odd score": (of_sample(0, scores={"choice": {"value": {"a": 1}}}), "sample 1: no score"),
    "false score": (
        of_sample(0, scores={"choice": {"value": "I", "answer": "A"}}),
        "sample 1: scored I, but its answer is 'A' and its target is A",
    ),
    "sampled": (likelier_other, "sample 1: the answer is A, but B is more likely"),
    "nan": (nan, "logprob: nan is no log-likelihood"),
    "a text": (logprob_as_text, "sample 0, .*logprob: Input should be a valid number"),
    "a probability": (probability, "logprob: 0.3 is no log-likelihood: it should be at most 0"),
    "half a character": (
        of_sample(0, choices=["honey", "\ud800"]),
        "sample 0, choices.1: .*surrogates not allowed",
    ),
    "no prompt": (of_sample(0, messages=[{"content": "A"}]), "sample 0, messages: .*at least 2"),
    "no target": (no_field("target"), "sample 0, target: Field required"),
    "no output": (no_field("output"), "sample 0, output: Field required"),
    "no scores": (no_field("scores"), "sample 0, scores: Field required"),
    "nameless task": (of_log(eval={"task": None, "model": "m"}), "is not a log of inspect_ai"),
    "samples of no list": (of_log(samples=7), "has no samples"),
    "epochs": (second_epoch, "sample 1: logged twice"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_log_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, change: Callable[[Content], Any], message: str
) -> None:
    path = save(tmp_path, change(content()))
    with pytest.raises((BadRow, InvalidSpec), match=message) as raised:
        import_inspect(tmp_path / "lake", {0: path})
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "lake").exists()


def test_a_model_name_with_a_line_break_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, content() | {"eval": {"task": "mini", "model": "a\nb"}})
    with pytest.raises(InvalidSpec, match=r"log.json: model 'a\\nb' has .*; write it in one line"):
        import_inspect(tmp_path / "lake", {0: path})
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("data", [b"", b"not json", LOG.read_bytes()[:6000]])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log.eval").write_bytes(data)
    with pytest.raises(InvalidSpec, match="cannot be read as a log"):
        read_inspect(tmp_path / "log.eval")
    with pytest.raises(InvalidSpec, match="no file"):
        read_inspect(tmp_path / "missing.eval")


def test_damage_inside_an_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(LOG.read_bytes())
    with zipfile.ZipFile(LOG) as archive:
        info = archive.getinfo("samples/1_epoch_1.json")
    for place in range(info.header_offset + 60, info.header_offset + info.compress_size, 50):
        damaged = data.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "log.eval").write_bytes(damaged)
        with pytest.raises(InvalidSpec, match="cannot be read as a log"):
            read_inspect(tmp_path / "log.eval")
