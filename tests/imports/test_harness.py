"""A real log of lm-evaluation-harness becomes rows of the lake."""

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelake.errors import BadRow, InvalidSpec
from prunelake.imports.harness import import_harness, read_harness
from prunelake.lake.maintenance.verify import verify_lake
from tests.support.harness_logs import (
    LEVELS,
    Log,
    impossible,
    no_column,
    option_texts,
    read_log,
    results,
    save,
    with_target,
    with_text_targets,
)
from tests.support.runs.lake_rows import rows_of


def test_the_accuracies_equal_the_harness(tmp_path: Path) -> None:
    run_id, is_new = import_harness(tmp_path, LEVELS)
    assert is_new
    found = rows_of(tmp_path, "select * from accuracy order by level")
    for row, level in zip(found, (0, 1), strict=True):
        reported = results(level)["results"]["mini"]
        assert row == {
            "run_id": run_id,
            "level": level,
            "accuracy": pytest.approx(reported["acc,none"], abs=1e-12),
            "accuracy_norm": pytest.approx(reported["acc_bytes,none"], abs=1e-12),
            "n": reported["sample_len"],
        }
    # The three metrics differ in this log, so that none can be mistaken for another.
    unpruned = results(0)["results"]["mini"]
    assert len({unpruned[f"{name},none"] for name in ("acc", "acc_norm", "acc_bytes")}) == 3


def test_each_prediction_equals_the_log(tmp_path: Path) -> None:
    import_harness(tmp_path, LEVELS)
    found = rows_of(
        tmp_path,
        "select *, list_max(probabilities) as highest from predictions order by level, "
        "split_part(example_id, ':', 2)::integer",
    )
    expected = [(level, row) for level in LEVELS for row in read_log(level)]
    for row, (level, sample) in zip(found, expected, strict=True):
        assert (row["level"], row["example_id"]) == (level, f"test:{sample['doc_id']}")
        assert row["option_log_likelihoods"] == [float(v) for v, _ in sample["filtered_resps"]]
        assert row["option_bytes"] == [len(text.encode()) for text in option_texts(sample)]
        assert row["gold"] == sample["doc"]["label"]
        assert row["is_correct"] == bool(sample["acc"])
        assert row["is_correct_norm"] == bool(sample["acc_bytes"])
        assert row["confidence"] == pytest.approx(row["highest"], abs=1e-12)


def test_an_imported_run_is_complete_in_the_views_and_undamaged(tmp_path: Path) -> None:
    import_harness(tmp_path, LEVELS, strategy="cosine")
    assert verify_lake(tmp_path) == []
    assert rows_of(tmp_path, "select * from excluded") == []
    flips = {row["level"]: row for row in rows_of(tmp_path, "select * from flips")}
    assert flips[0]["flip_rate"] == 0
    assert flips[1]["flip_rate"] > 0
    assert [row["n"] for row in rows_of(tmp_path, "select * from summary")] == [12, 12]
    assert len(rows_of(tmp_path, "select * from metrics where metric = 'ece'")) == 2


def test_fields_that_the_log_lacks_are_empty(tmp_path: Path) -> None:
    import_harness(tmp_path, LEVELS)
    (run,) = rows_of(tmp_path, "select * from runs")
    assert run["model"] == "tiny"
    assert (run["dtype"], run["split"], run["device"]) == ("float32", "test", "imported")
    assert (run["architecture"], run["revision"], run["strategy"]) == ("", "", "")
    assert (run["removal_order"], run["layer_count"]) == ([], None)
    assert json.loads(run["spec"])["levels"]["1"]["model"] == "tiny1"
    (example, *_) = rows_of(tmp_path, "select * from examples order by position")
    assert example["prompt"] == "Question: What do bees make?\nAnswer:"
    assert example["options"] == [" honey", " paper", " glass"]
    assert example["prompt_tokens"] == []


def test_the_same_log_is_the_same_run_and_another_log_another_run(tmp_path: Path) -> None:
    run_id, _ = import_harness(tmp_path, LEVELS)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    assert import_harness(tmp_path, dict(reversed(LEVELS.items()))) == (run_id, False)
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before
    alone, is_new = import_harness(tmp_path, {0: LEVELS[0]})
    assert is_new
    assert alone != run_id
    assert import_harness(tmp_path, {0: LEVELS[1]}, model="tiny")[0] != alone


def test_a_log_without_results_is_read_in_any_order_and_compressed(tmp_path: Path) -> None:
    path = save(tmp_path, read_log(0)[::-1])
    log = read_harness(path)
    assert [sample.example.example_id for sample in log.samples[:2]] == ["doc:0", "doc:1"]
    assert (log.model, log.dtype, log.split) == ("", "", "")
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_harness(packed).samples == log.samples
    with pytest.raises(InvalidSpec, match="does not name its model; give --model"):
        import_harness(tmp_path / "lake", {0: path})
    assert not (tmp_path / "lake").exists()


def test_a_target_may_be_the_text_of_an_option(tmp_path: Path) -> None:
    rows = with_text_targets(read_log(0))
    golds = [sample.example.gold for sample in read_harness(save(tmp_path, rows)).samples]
    assert golds == [row["doc"]["label"] for row in rows]


def test_an_ambiguous_target_is_refused(tmp_path: Path) -> None:
    row = read_log(0)[0]
    for argument, text in zip(row["arguments"].values(), (" 1", " 2", " 0"), strict=True):
        argument["arg_1"] = text
    row = {k: v for k, v in row.items() if k not in ("acc_norm", "acc_bytes")}
    answers = [["-9.0", "False"], ["-8.0", "False"], ["-7.0", "False"]]
    row |= {"filtered_resps": answers, "acc": 0.0}
    with pytest.raises(BadRow, match="numbers or texts of options, and both agree with acc"):
        read_harness(save(tmp_path, [with_target(row, "1")]))
    # The prediction is option 2, whose text is 0: acc 1 excludes the number 0.
    (sample,) = read_harness(save(tmp_path, [with_target(row | {"acc": 1.0}, "0")])).samples
    assert sample.example.gold == 2


@pytest.mark.parametrize(
    ("targets", "target", "message"),
    [
        (
            read_log,
            "7",
            r"'7' is neither the number of an option \(0 to 2\) nor its text .* a carp",
        ),
        (read_log, "", "'' is neither"),
        (read_log, None, "None is neither"),
        (read_log, "a carp", "'a carp' is not the number of an option, but most targets"),
        (lambda level: with_text_targets(read_log(level)), "an elm", "'an elm' is neither"),
        (
            lambda level: with_text_targets(read_log(level)),
            "0",
            "'0' is not the text of an option, but most targets of this log are$",
        ),
    ],
)
def test_the_error_names_the_row_with_the_wrong_target(
    tmp_path: Path, targets: Callable[[int], Log], target: str | None, message: str
) -> None:
    rows = targets(0)
    rows[5] = with_target(rows[5], str(target)) | {"target": target}
    with pytest.raises(BadRow, match=f"doc_id 5: target {message}"):
        read_harness(save(tmp_path, rows))


def test_an_option_called_none_is_not_the_gold_of_a_row_without_target(tmp_path: Path) -> None:
    rows = with_text_targets(read_log(0))
    rows[5]["arguments"]["gen_args_0"]["arg_1"] = " None"
    rows[5] = with_target(rows[5], "None") | {"target": None}
    with pytest.raises(BadRow, match="doc_id 5: target None is neither"):
        read_harness(save(tmp_path, rows))


def test_scores_without_the_prompt_are_ignored(tmp_path: Path) -> None:
    row = read_log(0)[0]
    count = len(row["arguments"])
    for i, argument in enumerate([*row["arguments"].values()]):
        row["arguments"][f"gen_args_{count + i}"] = argument | {"arg_0": ""}
    row["filtered_resps"] += [["-1.0", "False"]] * count
    (sample,) = read_harness(save(tmp_path, [row | {"acc_mutual_info": 0.0}])).samples
    assert sample == read_harness(save(tmp_path, read_log(0)[:1])).samples[0]


def test_rows_with_an_impossible_option_are_excluded_from_metrics(tmp_path: Path) -> None:
    rows = read_log(0)
    values: tuple[str | float, ...] = ("-inf", -math.inf, "-1e308", "-3.4028234663852886e+38")
    changed = [impossible(row, value) for row, value in zip(rows, values, strict=False)]
    import_harness(tmp_path / "lake", {0: save(tmp_path, changed + rows[4:])}, model="tiny")
    excluded = rows_of(tmp_path / "lake", "select example_id, reason from excluded order by all")
    reason = "a log-likelihood is infinite or missing"
    assert excluded == [{"example_id": f"doc:{i}", "reason": reason} for i in range(4)]
    (accuracy,) = rows_of(tmp_path / "lake", "select accuracy, n from accuracy")
    right = [row["acc"] for row in rows[4:]]
    assert accuracy == {"accuracy": pytest.approx(sum(right) / len(right)), "n": len(right)}
    raw = rows_of(tmp_path / "lake", "select * from lake.predictions order by example_id")
    for row, sample in zip(raw[:2], rows[:2], strict=True):
        assert row["option_log_likelihoods"].count(-math.inf) == 1
        assert (row["is_correct"], row["confidence"]) == (bool(sample["acc"]), None)
    assert verify_lake(tmp_path / "lake") == []


def test_a_log_may_end_in_blank_lines_and_have_numbers_for_texts(tmp_path: Path) -> None:
    rows = read_log(0)
    expected = read_harness(save(tmp_path, rows)).samples
    for row in rows:
        row["filtered_resps"] = [[float(value), False] for value, _ in row["filtered_resps"]]
    path = save(tmp_path, rows)
    path.write_bytes(path.read_bytes() + b"\n \r\n")
    assert read_harness(path).samples == expected


def test_the_path_must_lead_to_one_log(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"no file or folder .*missing"):
        read_harness(tmp_path / "missing")
    with pytest.raises(InvalidSpec, match="samples of tasks: none"):
        read_harness(tmp_path)
    path = save(tmp_path, read_log(0))
    save(tmp_path, read_log(0), "other")
    with pytest.raises(InvalidSpec, match=r"has samples_mini_.*samples_other_.*; give one of"):
        read_harness(tmp_path)
    assert read_harness(tmp_path, "mini").file == path
    with pytest.raises(InvalidSpec, match="samples of tasks: mini, other"):
        read_harness(tmp_path, "third")
    with pytest.raises(InvalidSpec, match="belongs to task 'mini', not to 'other'"):
        read_harness(path, "other")
    renamed = path.rename(tmp_path / "log.jsonl")
    with pytest.raises(InvalidSpec, match="give --task"):
        read_harness(renamed)
    assert read_harness(renamed, "mini").task == "mini"


def test_confidence_is_a_softmax_also_of_large_log_likelihoods(tmp_path: Path) -> None:
    row = no_column("acc_norm")(no_column("acc_bytes")(read_log(0)[:1]))[0]
    row["filtered_resps"] = [["-2000.0", "False"], ["-2001.0", "False"], ["-2002.0", "False"]]
    (sample,) = read_harness(save(tmp_path, [row | {"acc": 1.0}])).samples
    assert sample.confidence == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)), abs=1e-12)
