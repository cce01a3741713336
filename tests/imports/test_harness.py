"""A real log of lm-evaluation-harness 0.4.13 (a tiny random Llama), and damaged copies of it."""

import gzip
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import BadRow, InvalidSpec
from prunelake.imports.harness import import_harness, read_harness
from prunelake.lake import read
from prunelake.lake.maintenance.verify import verify_lake
from tests.support.lake_rows import rows_of

LOGS = Path(__file__).parent / "data" / "harness"
LEVELS = {0: LOGS / "level_0", 1: LOGS / "level_1"}

Log = list[dict[str, Any]]


def read_log(level: int) -> Log:
    (path,) = LEVELS[level].glob("samples_*")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def results(level: int) -> dict[str, Any]:
    (path,) = LEVELS[level].glob("results_*")
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def save(folder: Path, rows: Log, task: str = "mini") -> Path:
    """Write a log without a results file beside it."""
    path = folder / f"samples_{task}_2026-01-02T03-04-05.678.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def with_target(row: dict[str, Any], target: str) -> dict[str, Any]:
    return row | {"target": target, "target_hash": hashlib.sha256(target.encode()).hexdigest()}


def option_texts(row: dict[str, Any]) -> list[str]:
    return [argument["arg_1"].removeprefix(" ") for argument in row["arguments"].values()]


def with_text_targets(rows: Log) -> Log:
    return [with_target(row, option_texts(row)[row["doc"]["label"]]) for row in rows]


def test_the_accuracies_equal_those_of_the_harness(tmp_path: Path) -> None:
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


def test_each_prediction_equals_that_of_the_log(tmp_path: Path) -> None:
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
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    assert import_harness(tmp_path, dict(reversed(LEVELS.items()))) == (run_id, False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before
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
            r"'7' is neither the number of an option \(0 to 2\) nor the text .* a carp",
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


def no_column(name: str) -> Callable[[Log], Log]:
    return lambda rows: [{k: v for k, v in row.items() if k != name} for row in rows]


def first(**columns: Any) -> Callable[[Log], Log]:
    return lambda rows: [rows[0] | columns, *rows[1:]]


def generation(rows: Log) -> Log:
    arguments = {"gen_args_0": {"arg_0": "Say something.", "arg_1": {"until": ["\n"]}}}
    return [row | {"arguments": arguments, "filtered_resps": ["a word"]} for row in rows]


def own_prompts(rows: Log) -> Log:
    rows[0]["arguments"]["gen_args_1"]["arg_0"] = "another prompt"
    return rows


LL = [["-9.0", "False"], ["-8.0", "False"], ["-7.0", "False"]]


def impossible(row: dict[str, Any], value: str | float) -> dict[str, Any]:
    """The row with this log-likelihood of its least likely option."""
    (row,) = no_column("acc_norm")(no_column("acc_bytes")([row]))
    answers = row["filtered_resps"]
    last = min(range(len(answers)), key=lambda option: float(answers[option][0]))
    return row | {"filtered_resps": [*answers[:last], [value, "False"], *answers[last + 1 :]]}


REFUSED: dict[str, tuple[Callable[[Log], Log], str]] = {
    "empty": (lambda rows: rows[:0], "has no rows"),
    "no acc": (no_column("acc"), "row 0, acc: Field required"),
    "no hash": (no_column("doc_hash"), "row 0, doc_hash: Field required"),
    "no arguments": (no_column("arguments"), "row 0, arguments: Field required"),
    "generated": (generation, r"row 0, arguments.*multiple-choice task"),
    "nan": (
        first(filtered_resps=[["nan", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: nan is no",
    ),
    "infinite": (
        first(filtered_resps=[["inf", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: inf is no log-likelihood",
    ),
    "impossible": (
        lambda rows: [impossible(rows[0], "-inf")],
        "no row has a finite log-likelihood of each option",
    ),
    "a word": (
        first(filtered_resps=[["low", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: .*low",
    ),
    "a boolean": (first(filtered_resps=[[False, "False"], *LL[1:]]), "row 0, filtered_resps.0.0"),
    "digits": (first(filtered_resps=[["-1_0", "False"], *LL[1:]]), "row 0, filtered_resps.0.0"),
    "null": (first(filtered_resps=[[None, "False"], *LL[1:]]), "row 0, filtered_resps.0.0"),
    "a probability": (
        first(filtered_resps=[["0.5", "False"], *LL[1:]]),
        "row 0, filtered_resps.0.0: 0.5 is no log-likelihood: it should be at most 0",
    ),
    "half a character": (
        first(arguments=[["?", " \ud800"], ["?", " b"], ["?", " c"]]),
        "row 0, arguments.0.1: .*surrogates not allowed",
    ),
    "no number": (no_column("doc_id"), "row 0, doc_id: Field required"),
    "no target": (no_column("target"), "row 0, target: Field required"),
    "no answers": (no_column("filtered_resps"), "row 0, filtered_resps: Field required"),
    "NaN acc": (first(acc=math.nan), "doc_id 0: acc is nan"),
    "too few": (first(filtered_resps=LL[:2]), "doc_id 0: 2 answers for 3 options"),
    "twice": (lambda rows: [*rows, rows[0]], "doc_id 0 appears twice"),
    "mixed": (first(doc={"sentence": "?"}), "row 1: doc has other columns than row 0"),
    "edited target": (first(target="2"), "doc_id 0: '2' does not match its hash"),
    "wrong acc": (first(acc=1.0), "doc_id 0: acc is 1, but .* predict option"),
    "part acc": (first(acc=0.43), "doc_id 0: acc is 0.43"),
    "wrong acc_norm": (first(acc_norm=1.0), "doc_id 0: acc_norm is 1"),
    "wrong acc_bytes": (first(acc_bytes=1.0), "doc_id 0: acc_bytes is 1"),
    "no option": (
        lambda r: [with_target(r[0], "7"), *r[1:]],
        "doc_id 0: target '7' is neither the number",
    ),
    "two right": (lambda r: [with_target(r[0], "[0, 1]")], r"target '\[0, 1\]' is neither"),
    "the same options": (
        first(arguments=[["?", " a"], ["?", " a"], ["?", " a"]], prompt_hash=None),
        "doc_id 0: all 3 options are 'a'",
    ),
    "own prompts": (own_prompts, "each option has its own prompt"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_log_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, change: Callable[[Log], Log], message: str
) -> None:
    path = save(tmp_path, change(read_log(0)))
    with pytest.raises(BadRow, match=message) as raised:
        import_harness(tmp_path / "lake", {0: path}, model="tiny")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "lake").exists()


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


def test_rows_that_do_not_match_the_results_are_refused(tmp_path: Path) -> None:
    for path in LEVELS[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (path,) = tmp_path.glob("samples_*")
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    with pytest.raises(BadRow, match="its 11 rows do not match the results file"):
        read_harness(path)


@pytest.mark.parametrize("text", ["not json", "[]", '{"config": null}'])
def test_unreadable_results_are_refused(tmp_path: Path, text: str) -> None:
    path = save(tmp_path, read_log(0))
    (tmp_path / "results_2026-01-02T03-04-05.678.json").write_text(text)
    with pytest.raises(BadRow, match=r"results_.*restore or move it"):
        read_harness(path)


def other_hash(row: dict[str, Any]) -> None:
    row["doc_hash"] = "0" * 64


def other_option(row: dict[str, Any]) -> None:
    row["arguments"]["gen_args_1"]["arg_1"] = " another"


def other_prompt(row: dict[str, Any]) -> None:
    for argument in row["arguments"].values():
        argument["arg_0"] += " "
    row["prompt_hash"] = None


def other_gold(row: dict[str, Any]) -> None:
    wrong = [option for option in range(3) if option != row["doc"]["label"]]
    scores = [float(value) for value, _ in row["filtered_resps"]]
    gold = next(option for option in wrong if scores[option] < max(scores))
    row |= {
        "target": str(gold),
        "target_hash": None,
        "acc": 0.0,
        "acc_norm": None,
        "acc_bytes": None,
    }


def other_number(row: dict[str, Any]) -> None:
    row["doc_id"] = 30


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_hash, "row hash: '000.* instead of '"),
        (other_option, "options: .*' another', .* instead of "),
        (other_prompt, r"prompt: \.\.\..*Answer: ' instead of \.\.\..*Answer:'\. Give"),
        (other_gold, r"gold: \d instead of \d\. Give"),
        (other_number, "example id: 'doc:4' instead of 'doc:3'"),
    ],
)
def test_levels_with_other_examples_are_refused_with_the_difference(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    unpruned = save(tmp_path, read_log(0))
    rows = read_log(0)
    change(rows[3])
    (tmp_path / "level").mkdir()
    pruned = save(tmp_path / "level", rows)
    first = "doc:4" if change is other_number else "doc:3"
    with pytest.raises(InvalidSpec, match=f"{first} is the first that differs, in its {message}"):
        import_harness(tmp_path / "lake", {0: unpruned, 1: pruned}, "tiny")
    assert not (tmp_path / "lake").exists()


def test_levels_with_fewer_examples_or_another_task_are_refused(tmp_path: Path) -> None:
    (tmp_path / "level").mkdir()
    unpruned = save(tmp_path, read_log(0))
    for task, rows, message in (
        ("mini", read_log(0)[:-1], "has 11 examples, .* has 12"),
        ("other", read_log(0), "belongs to task 'mini', .* to task 'other'"),
    ):
        pruned = save(tmp_path / "level", rows, task)
        with pytest.raises(InvalidSpec, match=message):
            import_harness(tmp_path / "lake", {0: unpruned, 1: pruned}, "tiny")
    assert not (tmp_path / "lake").exists()


def test_levels_with_another_number_format_are_refused(tmp_path: Path) -> None:
    for path in LEVELS[1].iterdir():
        text = path.read_text("utf-8").replace("torch.float32", "torch.bfloat16")
        (tmp_path / path.name).write_text(text, "utf-8")
    with pytest.raises(InvalidSpec, match="computed in bfloat16 and float32"):
        import_harness(tmp_path / "lake", {0: LEVELS[0], 1: tmp_path})


def test_levels_with_another_tokenizer_are_refused(tmp_path: Path) -> None:
    bos = {0: ["<s>", "1"], 1: ["<|endoftext|>", "0"]}
    for level, folder in LEVELS.items():
        shutil.copytree(folder, tmp_path / str(level))
        (path,) = (tmp_path / str(level)).glob("results_*")
        padding = {"tokenizer_pad_token": [None, str(level)]}
        results_file = results(level) | padding | {"tokenizer_bos_token": bos[level]}
        path.write_text(json.dumps(results_file), "utf-8")
    paths = {level: tmp_path / str(level) for level in LEVELS}
    with pytest.raises(InvalidSpec, match=r"level 1 was tokenised .*endoftext.*level 0 with .*<s>"):
        import_harness(tmp_path / "lake", paths)
    assert not (tmp_path / "lake").exists()
    # Padding changes no number, and a log may lack its tokenizer.
    path.write_text(json.dumps(results_file | {"tokenizer_bos_token": bos[0]}), "utf-8")
    assert import_harness(tmp_path / "lake", paths)[1]
    assert import_harness(tmp_path / "lake", {0: LEVELS[0], 1: paths[1]}) == (
        *read.run_ids(tmp_path / "lake"),
        False,
    )


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, read_log(0)).with_suffix(".jsonl.gz")
    data = gzip.compress("".join(json.dumps(row) + "\n" for row in read_log(0)).encode())
    for place in range(10, len(data), 50):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(BadRow):
            read_harness(path)
    path.with_suffix("").write_text('{"doc":' * 100_000, "utf-8")
    with pytest.raises(BadRow, match="cannot be read: RecursionError"):
        read_harness(path.with_suffix(""))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"model": "tiny\nllama"}, r"model 'tiny\\nllama' has a line break"),
        ({"model": "\x1b[31mtiny"}, r"model '\\x1b\[31mtiny' has a line break or another"),
        ({"model": "tiny", "strategy": "cosine\n"}, r"strategy 'cosine\\n' has a line break"),
        ({"model": " "}, "does not name its model; give --model"),
    ],
)
def test_a_name_that_cannot_be_printed_is_refused(
    tmp_path: Path, names: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSpec, match=message):
        import_harness(tmp_path, {0: LEVELS[0]}, **names)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "levels",
    [
        {},
        {1: LEVELS[1]},
        {-1: LEVELS[1], 0: LEVELS[0]},
        {0: LEVELS[0], 2**31: LEVELS[1]},
    ],
)
def test_an_import_needs_the_unpruned_model(tmp_path: Path, levels: dict[int, Path]) -> None:
    with pytest.raises(InvalidSpec, match="needs level 0"):
        import_harness(tmp_path, levels)


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
