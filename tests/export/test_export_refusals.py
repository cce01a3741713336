"""Exports that are refused in one line."""

from pathlib import Path

import pytest

from tests.support.export_command import add_run, export
from tests.support.runs.example_runs import explained_run

pytestmark = pytest.mark.usefixtures("in_a_new_folder")


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (["--level", "6"], "level 6: the model has 5 attention layers"),
        (["--level", "6", "--strategy", "block:last"], "level 6: the model has 5 blocks"),
        (["--level", "1", "--strategy", "ffn:last"], "--strategy ffn:last: Input should be"),
        (["--level", "0"], "go from 1 to 5"),
        (["--level", "1", "--strategy", "best"], "--strategy best: Input should be 'cosine'"),
        (["--level", "1", "--strategy", "random:x"], "--strategy random:x"),
        (["--level", "1", "--dtype", "int8"], "--dtype int8: choose float32"),
        (["--level", "1", "--calibration", "nothing.txt"], "nothing.txt"),
        (["--level", "1", "--run", "abc"], "the lake has: none"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(
    arguments: list[str],
    mentioned: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert revision
    assert export(monkeypatch, "tiny", *arguments, "--out", "out") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.splitlines()) == 1
    assert {p.name for p in Path().iterdir()} == {"tiny"}


@pytest.mark.parametrize(
    ("options", "mentioned"),
    [
        (["--max-shard-size", "many"], "--max-shard-size many: give a size such as 5GB"),
        (["--quantize", "q8_0"], "--quantize q8_0 is a number format of GGUF; give --kind gguf"),
        (["--with-code"], "--with-code is for --kind compact; a portable checkpoint needs no code"),
        (["--kind", "gguf", "--level", "2"], "llama.cpp reads the size of a head from block 0"),
        (["--kind", "nemotron-nas", "--level", "2"], "vLLM starts the sum of its blocks' outputs"),
    ],
)
def test_a_level_that_a_runtime_cannot_express_is_refused_in_one_line(
    options: list[str],
    mentioned: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_run(revision)
    assert export(monkeypatch, "tiny", "--level", "1", "--out", "out", *options) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.splitlines()) == 1
    assert {p.name for p in Path().iterdir()} == {"lake", "tiny"}


@pytest.mark.parametrize("is_named", [True, False])
def test_a_candidate_of_a_comparison_is_not_exported(
    is_named: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = explained_run(Path("lake"), labels=("fp16", "int8", "int4"))
    chosen = ("--strategy", "comparison") if is_named else ("--run", run_id)
    options = ("--level", "1", "--out", "out", "--lake", "lake")
    assert export(monkeypatch, "tiny", *chosen, *options) == 1
    assert "a candidate of a comparison is a model already" in capsys.readouterr().err
