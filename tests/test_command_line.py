"""The command line of a spec: reading it gives the spec again."""

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from prunelake.cli import sweep as sweep_module
from prunelake.cli.app import app
from prunelake.command_line import grown_rows, settling_command, sweep_command
from prunelake.spec import Calibration, Explanation, Rows, Strategy, SweepSpec

SPECS = [
    SweepSpec(task="arc_easy"),
    SweepSpec(
        model="hub:a/b c",
        task="tasks/my task.yaml",
        rows=Rows(sample=1400, seed=7),
        levels=(0, 2, 8),
        strategy=Strategy.model_validate("mlp:random:3"),
        calibration=Calibration(source="c4"),
        explain=Explanation(
            methods=("lime", "leverage_shap"),
            seeds=(0, 1),
            operators=("replace",),
            rows=300,
            levels=(0, 8),
            bounds_beam=4,
        ),
        dtype="bfloat16",
        special_tokens="none",
    ),
    SweepSpec(task="boolq", rows=Rows(numbers=(3, 5)), explain=None),
]


@pytest.mark.parametrize("spec", SPECS)
def test_the_command_runs_the_spec(spec: SweepSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SweepSpec] = []

    def evaluate(given: SweepSpec, *_: Any) -> str:
        seen.append(given)
        raise SystemExit

    monkeypatch.setattr(sweep_module, "evaluate", evaluate)
    program, *arguments = shlex.split(sweep_command(spec))
    assert program == "prunelake"
    CliRunner().invoke(app, arguments)
    assert seen == [spec]


def test_settings_without_an_option_are_named() -> None:
    spec = SweepSpec(
        task="boolq",
        strategy=Strategy(name="balanced", search_rows=40),
        calibration=Calibration(windows=4),
        explain=Explanation(fractions=(0.5,)),
    )
    comment = "strategy.search_rows: 40, calibration.windows: 4, explain.fractions: (0.5,)"
    assert sweep_command(spec).endswith(f"  # in a spec file, with {comment}")


def test_grown_rows_contain_the_rows() -> None:
    assert grown_rows(Rows(first=10), 20) == Rows(first=20)
    assert grown_rows(Rows(sample=10, seed=3), 20) == Rows(sample=20, seed=3)
    assert grown_rows(Rows(numbers=(1, 2)), 20) == Rows(sample=20)


def test_a_settling_sweep_extends_the_run() -> None:
    spec = SweepSpec(task="boolq", rows=Rows(sample=100), explain=Explanation(rows=20))
    assert settling_command(spec, 100, rows=700, explained_rows=50) == sweep_command(
        SweepSpec(task="boolq", rows=Rows(sample=700), explain=Explanation(rows=50))
    )
    assert settling_command(spec, 100, rows=0, explained_rows=150) == sweep_command(
        SweepSpec(task="boolq", rows=Rows(sample=150), explain=Explanation(rows=150))
    )


def test_a_settling_sweep_explains_nothing_unasked() -> None:
    predicted = SweepSpec(task="boolq", rows=Rows(first=100), explain=None)
    assert settling_command(predicted, 100, rows=700).endswith("--rows 700 --methods none")
    everything = SweepSpec(task="boolq", rows=Rows(first=100))
    assert settling_command(everything, 100, rows=700).endswith("--rows 700 --explain-rows 100")
