"""The command `compare`: its tables, its next step and its errors."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunelake.cli.app import app
from prunelake.errors import InvalidSpec, PruneLakeError


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setenv("PRUNELAKE_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("PRUNELAKE_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "80")
    return CliRunner()


def test_a_comparison_is_printed_with_its_next_step(runner: CliRunner, tiny_folder: Path) -> None:
    words = [f"base={tiny_folder}", f"half={tiny_folder},dtype=bfloat16"]
    words += ["--task", "everyday_knowledge", "--rows", "8", "--methods", "none"]
    result = runner.invoke(app, ["compare", *words])
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert "base is the baseline, on 8 rows of everyday_knowledge." in out
    assert "half: undecided with these rows: accuracy" in out.replace("\n", " ")
    for column in ("format", "recovery", "harmful", "beneficial", "KL", "ECE"):
        assert column in out
    assert "comprehens." not in out
    assert all(len(line) <= 80 for line in out.splitlines()[:-1])
    # A shell may run the next step as it is printed.
    assert out.splitlines()[-1].startswith(
        ("To settle the open questions: prunelake compare", "Task")
    )
    assert f"half={tiny_folder},dtype=bfloat16" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["./a", "./a"], "two models have the label 'a'"),
        (["./a", "./b,layers=3"], "'layers=3' is no setting of a model"),
        (["./nowhere", "./b"], "nowhere"),
    ],
)
def test_a_comparison_that_cannot_run_is_refused(
    runner: CliRunner, tmp_path: Path, words: list[str], problem: str
) -> None:
    result = runner.invoke(app, ["compare", *words, "--task", "everyday_knowledge"])
    assert isinstance(result.exception, PruneLakeError)
    assert problem in str(result.exception)
    assert not (tmp_path / "lake").exists()


def test_difference_shap_is_refused_with_the_choices(runner: CliRunner) -> None:
    words = ["./a", "./b", "--task", "everyday_knowledge", "--methods", "difference_shap"]
    result = runner.invoke(app, ["compare", *words])
    assert isinstance(result.exception, InvalidSpec)
    assert "take one of kernel_shap, leverage_shap" in str(result.exception)
