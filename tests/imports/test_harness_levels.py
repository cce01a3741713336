"""Imports refuse logs whose levels have other examples, settings or names."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunelake.cli.app import main
from prunelake.errors import InvalidSpec
from prunelake.imports.harness import import_harness
from prunelake.imports.imported_run import LabelledFile
from prunelake.lake import read
from tests.support.harness_logs import LEVELS, read_log, results, save
from tests.support.runs.lake_rows import rows_of


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


def other_format(folder: Path) -> Path:
    """The log of level 1 with another model, number format and tokenizer."""
    for path in LEVELS[1].iterdir():
        text = path.read_text("utf-8").replace("torch.float32", "torch.bfloat16")
        if path.name.startswith("results_"):
            bos = {"model_name": "tiny-bf16", "tokenizer_bos_token": ["<s>", "7"]}
            text = json.dumps(json.loads(text) | bos)
        (folder / path.name).write_text(text, "utf-8")
    return folder


def test_candidates_may_have_another_number_format_and_tokenizer(tmp_path: Path) -> None:
    log = other_format(tmp_path)
    files = [LabelledFile("base", LEVELS[0]), LabelledFile("bf16", log, revision="r1")]
    run_id, is_new = import_harness(tmp_path / "lake", files)
    assert is_new
    levels = rows_of(
        tmp_path / "lake", "select label, kind, model, revision, dtype from levels order by level"
    )
    model = results(0)["model_name"]
    assert [tuple(row.values())[:3] for row in levels] == [
        ("base", "candidate", model),
        ("bf16", "candidate", "tiny-bf16"),
    ]
    assert [(row["dtype"], row["revision"]) for row in levels[1:]] == [("bfloat16", "r1")]
    (run,) = rows_of(tmp_path / "lake", "select run_id, dtype, levels, unit from runs")
    assert run == {"run_id": run_id, "dtype": "float32", "levels": [0, 1], "unit": None}
    (flips,) = rows_of(tmp_path / "lake", "select mean_kl, n from flips where level = 1")
    assert flips["mean_kl"] > 0
    assert flips["n"] == len(read_log(0))
    relabelled = [files[0], LabelledFile("other", log, revision="r1")]
    assert import_harness(tmp_path / "lake", relabelled)[0] != run_id


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["base"], "no candidate; give at least one by --candidate"),
        (["base", "base"], "label 'base': give every level a name of its own"),
        (["base", " "], "label ' ': give every level a name of its own"),
        (["base", "a\nb"], "label 'a.*b' has a line break"),
    ],
)
def test_candidates_need_distinct_labels(tmp_path: Path, labels: list[str], message: str) -> None:
    files = [LabelledFile(label, LEVELS[0]) for label in labels]
    with pytest.raises(InvalidSpec, match=message):
        import_harness(tmp_path / "lake", files)
    with pytest.raises(InvalidSpec, match="--strategy 'cosine' belongs to removal levels"):
        import_harness(tmp_path / "lake", [*files, *files], strategy="cosine")
    assert not (tmp_path / "lake").exists()


def test_the_command_takes_removal_levels_or_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prunelake", "import", "harness", "--lake", str(tmp_path / "lake")]
    pair = ["--baseline", f"base={LEVELS[0]}", "--candidate", f"int8={LEVELS[1]},dtype=int8"]
    for arguments, code in ((pair, "0"), ([str(LEVELS[0]), *pair], "1"), (pair[2:], "1")):
        monkeypatch.setattr("sys.argv", [*command, *arguments])
        with pytest.raises(SystemExit, match=code):
            main()
    assert "give either removal levels" in capsys.readouterr().err
    levels = rows_of(tmp_path / "lake", "select label, dtype from levels order by level")
    assert [row["label"] for row in levels] == ["base", "int8"]
    assert levels[1]["dtype"] == "int8"
