"""`prunelake gate`: exit codes on real small runs, and its table."""

import sys
from pathlib import Path

import pytest

from prunelake.cli.app import main
from prunelake.schema.number_texts import MINUS
from tests.support.runs.example_runs import judged_run, published_run
from tests.support.runs.lake_rows import run_row, write_raw

EQUAL = "- {metric: accuracy, task: demo, margin: 0.02}\n"
WORSE = "- {metric: ece, task: demo, margin: 0.02}\n"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """At level 1 accuracy is equal and ECE is worse; at level 2 accuracy has fallen."""
    folder = tmp_path_factory.mktemp("lake")
    judged_run(folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_gate(
    monkeypatch: pytest.MonkeyPatch,
    lake: Path,
    folder: Path,
    criteria: str,
    start: str = "model: tiny\nlevels: [1]\n",
) -> int:
    """Run the command on a gate file with these criteria; its exit code."""
    file = folder / "gate.yaml"
    file.write_text(f"{start}criteria:\n{criteria}")
    monkeypatch.setattr(sys, "argv", ["prunelake", "gate", str(file), "--lake", str(lake)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


@pytest.mark.parametrize(
    ("criteria", "code", "summary"),
    [
        (EQUAL, 0, "The gate has passed: 1 passed."),
        (EQUAL + WORSE, 1, "The gate has failed: 1 passed, 1 failed."),
        (EQUAL + WORSE.replace("0.02", "0.1"), 3, "The gate is undecided: 1 passed, 1 undecided."),
    ],
)
def test_the_exit_code_is_the_result(
    lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    criteria: str,
    code: int,
    summary: str,
) -> None:
    assert run_gate(monkeypatch, lake, tmp_path, criteria) == code
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    if code == 3:
        assert lines.pop()[-3:] == ["decided", "--lake", str(lake)]  # the next command
    assert " ".join(lines[-1]) == summary
    assert lines[0] == ["demo"]
    assert lines[1] == [
        *("criterion", "candidate", "baseline", "value", "change", "(90", "%", "interval)"),
        *("margin", "result", "rows", "needed"),
    ]
    # No example changed: Tango's bound is z^2 / (n + z^2).
    values = f"0.8750 0.8750 0.0000 ({MINUS}0.0067 to +0.0067) {MINUS}0.02 passed"
    assert " ".join(lines[3]) == f"accuracy level 1 {values}"


ERRORS = [
    (
        "model: tiny\nlevels: [1]\n",
        WORSE.replace("ece", "eec"),
        "no metric 'eec'; did you mean ece?",
    ),
    (
        "model: tiny\nlevels: [1]\n",
        WORSE.replace("demo", "damo"),
        "task 'damo': the runs of tiny have no such task",
    ),
    ("model: tiny\nlevels: [7]\n", WORSE, "levels 7: no run of tiny has all of them"),
    ("model: tony\nlevels: [1]\n", WORSE, "no run of model 'tony'; the lake has tiny"),
    ("runs: [beef]\nlevels: [1]\n", WORSE, "run 'beef': the lake has no such complete run"),
    ("model: tiny\nlevels: [1]\ndtype: int8\n", WORSE, "dtype 'int8': tiny has float32"),
    ("model: tiny\nlevels: [1]\n", "", "criteria"),
]


@pytest.mark.parametrize(("start", "criteria", "message"), ERRORS)
def test_a_wrong_gate_is_an_error_and_changes_nothing(
    lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    start: str,
    criteria: str,
    message: str,
) -> None:
    before = contents(lake)
    assert run_gate(monkeypatch, lake, tmp_path, criteria, start) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert contents(lake) == before


@pytest.mark.parametrize("table", ["runs", "predictions", "metrics", "analyses"])
def test_a_damaged_run_never_passes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str,
) -> None:
    lake = tmp_path / "lake"
    judged_run(lake)
    (file,) = (lake / table).glob("*.parquet")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    assert run_gate(monkeypatch, lake, tmp_path, EQUAL) == 2
    assert "error: " in capsys.readouterr().err


def test_a_run_without_analysis_is_undecided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    explained = run_row("run", task="demo", levels=[0, 1])
    write_raw(tmp_path / "lake", explained)
    assert run_gate(monkeypatch, tmp_path / "lake", tmp_path, EQUAL) == 3
    note = "accuracy on demo, level 1: the run has no analysis: `prunelake analyse` computes it."
    assert note in capsys.readouterr().out


def test_the_reports_are_written_also_after_an_error_but_never_over_the_gate_file(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, file = tmp_path / "gate.md", tmp_path / "gate.yaml"
    file.write_text(f"model: tiny\nlevels: [1]\ncriteria:\n{EQUAL}")

    def call(lake_folder: Path, markdown: Path) -> int:
        options = ["--lake", str(lake_folder), "--markdown", str(markdown)]
        monkeypatch.setattr(sys, "argv", ["prunelake", "gate", str(file), *options])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code

    assert call(lake, report) == 0
    assert report.read_text().startswith("## PruneLake: passed")
    assert call(tmp_path / "none", report) == 2
    assert report.read_text().startswith("## PruneLake: error\n\nThe gate was not checked: no lake")
    before = file.read_text()
    assert call(lake, file) == 2
    assert file.read_text() == before


def test_names_are_no_markup_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged_run(tmp_path / "lake", n=40, task="[bold]demo")
    criteria = EQUAL.replace("demo", "'[bold]demo'")
    assert run_gate(monkeypatch, tmp_path / "lake", tmp_path, criteria) == 3  # few examples
    assert capsys.readouterr().out.startswith("[bold]demo")


def test_missing_evidence_is_undecided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged_run(tmp_path / "lake")
    published_run(tmp_path / "lake", task="table")
    criteria = EQUAL + "- {metric: sufficiency, task: demo}\n- {metric: auroc, task: demo}\n"
    assert run_gate(monkeypatch, tmp_path / "lake", tmp_path, criteria) == 3
    printed = capsys.readouterr().out
    assert "sufficiency on demo, level 1: the run has no sufficiency at this level." in printed
    assert "AUROC of confidence on demo, level 1: no variation among the examples." in printed
    criteria = "- {metric: accuracy, task: table}\n"
    assert run_gate(monkeypatch, tmp_path / "lake", tmp_path, criteria) == 2  # no examples
    assert "task 'table': the runs of tiny have no such task" in capsys.readouterr().err


@pytest.mark.parametrize(("raised", "code"), [(ZeroDivisionError, 2), (KeyboardInterrupt, 130)])
def test_a_defect_or_an_interruption_does_not_look_like_a_worse_candidate(
    lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: type[BaseException],
    code: int,
) -> None:
    def fail(_: object) -> None:
        raise raised

    monkeypatch.setattr("prunelake.gate.decision.holm_adjusted", fail)
    assert run_gate(monkeypatch, lake, tmp_path, EQUAL) == code
