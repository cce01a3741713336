"""The command line of a spec: reading it gives the spec again."""

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from prunelake.cli import sweep as sweep_module
from prunelake.cli.app import app
from prunelake.command_line import (
    EXPRESSIBLE,
    SettlingSweep,
    grown_rows,
    settling_sweep,
    sweep_command,
)
from prunelake.spec import Calibration, Explanation, Rows, Strategy, SweepSpec, Texts

SPECS = [
    SweepSpec(task="arc_easy"),
    SweepSpec(
        model="hub:a/b c",
        task="tasks/my task.yaml",
        rows=Rows(sample=1400, seed=7),
        levels=(0, 2, 8),
        strategy=Strategy.model_validate("mlp:random:3"),
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
        texts=Texts(rows=20, new_tokens=8),
    ),
    SweepSpec(
        task="boolq",
        rows=Rows(numbers=(3, 5)),
        calibration=Calibration(source="c4"),
        explain=None,
    ),
    SweepSpec(
        task="boolq",
        strategy=Strategy(name="balanced", search_rows=40),
        trust_remote_code=True,
    ),
]

WITHOUT_OPTION = {
    "commit",  # part of the model's reference
    "sequential",  # `--until decided` sets it
    "split_rows",  # the sweep counts them
}


def test_every_setting_with_an_option_is_tested() -> None:
    default = SweepSpec(task="arc_easy")
    written = {
        name
        for name in SweepSpec.model_fields
        if any(getattr(spec, name) != getattr(default, name) for spec in SPECS)
    }
    missing = SweepSpec.model_fields.keys() - written - WITHOUT_OPTION
    assert not missing, f"{missing}: add a spec to SPECS, and the option to `sweep_command`"
    for part, names in EXPRESSIBLE.items():
        values = [getattr(spec, part) for spec in SPECS if getattr(spec, part) is not None]
        for name in names:
            assert len({getattr(value, name) for value in values}) > 1, f"SPECS: {part}.{name}"


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


def test_calibration_text_is_left_out_if_the_order_does_not_read_it() -> None:
    spec = SweepSpec(
        task="boolq",
        strategy=Strategy.model_validate("random:3"),
        calibration=Calibration(source="c4"),
    )
    assert "--calibration" not in sweep_command(spec)


def test_settings_without_an_option_are_named() -> None:
    spec = SweepSpec(
        task="boolq",
        strategy=Strategy(name="balanced"),
        calibration=Calibration(windows=4),
        explain=Explanation(fractions=(0.5,)),
    )
    comment = "calibration.windows: 4, explain.fractions: (0.5,)"
    assert sweep_command(spec).endswith(f"  # in a spec file, with {comment}")


def test_grown_rows_contain_the_rows() -> None:
    assert grown_rows(Rows(first=10), 20) == Rows(first=20)
    assert grown_rows(Rows(sample=10, seed=3), 20) == Rows(sample=20, seed=3)
    assert grown_rows(Rows(numbers=(1, 2)), 20) == Rows(sample=20)


def test_a_settling_sweep_extends_the_run() -> None:
    spec = SweepSpec(task="boolq", rows=Rows(sample=100), explain=Explanation(rows=20))

    def expected(rows: int, explained: int) -> SettlingSweep:
        grown = {"rows": Rows(sample=rows), "explain": Explanation(rows=explained)}
        return SettlingSweep(sweep_command(spec.model_copy(update=grown)), "")

    assert settling_sweep(spec, 100, rows=700, explained_rows=50) == expected(700, 50)
    assert settling_sweep(spec, 100, rows=0, explained_rows=150) == expected(150, 150)


def test_a_settling_sweep_explains_nothing_unasked() -> None:
    predicted = SweepSpec(task="boolq", rows=Rows(first=100), explain=None)
    assert str(settling_sweep(predicted, 100, 700).command).endswith("--rows 700 --methods none")
    everything = SweepSpec(task="boolq")
    command = str(settling_sweep(everything, 100, 700).command)
    assert command.endswith("--rows 700 --explain-rows 100")


@pytest.mark.parametrize(
    ("rows", "explained", "options"),
    [
        (500, 30, "--rows 500 --explain-rows 30"),
        (1100, 30, "--rows 500 --explain-rows 30"),
        (100, 1100, "--rows 500 --explain-rows 500"),
    ],
)
def test_a_settling_sweep_takes_no_more_rows_than_the_task_has(
    rows: int, explained: int, options: str
) -> None:
    spec = SweepSpec(task="boolq", explain=Explanation(rows=20), split_rows=500)
    settling = settling_sweep(spec, 100, rows, explained)
    assert str(settling.command).endswith(options)
    shortage = "Task boolq has 500 rows, fewer than the 1,100 that"
    assert settling.shortage == (shortage if 1100 in (rows, explained) else "")


def test_a_run_with_all_rows_may_explain_more_of_them() -> None:
    spec = SweepSpec(task="boolq", explain=Explanation(rows=20), split_rows=500)
    settling = settling_sweep(spec, 500, rows=1100, explained_rows=300)
    assert settling.sentence("it") == (
        "Task boolq has 500 rows, fewer than the 1,100 that would settle it. To explain 300 of "
        f"them: {settling.command}"
    )
    assert str(settling.command).endswith("--rows 500 --explain-rows 300")


def test_a_run_with_all_rows_has_no_settling_command() -> None:
    spec = SweepSpec(task="boolq", rows=Rows(first=500), explain=None, split_rows=500)
    settling = settling_sweep(spec, 500, rows=1100)
    assert settling.command is None
    assert settling.sentence("it") == (
        "Task boolq has 500 rows, fewer than the 1,100 that would settle it."
    )
