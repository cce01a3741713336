"""`prunelake export --calibrator`: the file beside the weights, its card section, and errors."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from prunelake.analysis.calibrators import load
from prunelake.cli.app import main
from prunelake.export.calibrator import ExportedCalibrator, find_calibrator
from prunelake.lake.sql.run_lookup import find_run
from prunelake.schema.arrays import FloatArray
from prunelake.schema.calibrators import CALIBRATOR_NAMES, UNPRUNED_TEMPERATURE
from tests.support.paths import ROOT
from tests.support.runs.lake_rows import prediction, rows_of, run_row, write, write_raw

ORDER = [3, 0, 1, 4, 2]
LAKE = Path("lake")

pytestmark = pytest.mark.usefixtures("revision")


def add_run(revision: str, name: str, task: str, n: int = 80, is_analysed: bool = True) -> str:
    """Write a run of n examples, each more confident at level 1; return its id."""
    run = run_row(
        name, revision=revision, removal_order=ORDER, layer_count=5, task=task, example_count=n
    )
    run_id = str(run["run_id"])
    latent = np.random.default_rng(0).normal(size=(n, 2))
    (write if is_analysed else write_raw)(
        LAKE,
        run,
        predictions=[
            prediction(run_id, level, f"test:{i}", (scale * row).tolist(), int(i % 3 == 0))
            for level, scale in ((0, 1.0), (1, 4.0))
            for i, row in enumerate(latent)
        ],
    )
    return run_id


def reader() -> Callable[..., FloatArray]:
    """The reader in docs/checkpoints.md, which needs NumPy only."""
    guide = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^def calibrated.*?(?=^\S)", guide, re.DOTALL | re.M)[:1]
    names: dict[str, Any] = {"np": np, "json": json, "Path": Path}
    exec(code, names)
    function: Callable[..., FloatArray] = names["calibrated"]
    return function


def export(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["prunelake", "export", "tiny", "--out", "out", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out + captured.err


@pytest.mark.parametrize("name", CALIBRATOR_NAMES)
def test_the_calibrator_of_the_level_is_written_beside_the_weights(
    name: str,
    revision: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_id = add_run(revision, "run", "demo")
    code, output = export(monkeypatch, capsys, "--level", "1", "--calibrator", name)
    assert code == 0, output
    assert f"calibrator.json: {name}, fitted to 80 predictions on demo of run {run_id}." in output
    written = json.loads(Path("out/calibrator.json").read_text())
    (row,) = rows_of(LAKE, f"from calibrators where level = 1 and calibrator = '{name}'")
    assert written["parameters"] == json.loads(row["parameters"])
    assert written["kind"] == ("temperature" if name == UNPRUNED_TEMPERATURE else name)
    assert {key: written[key] for key in ("calibrator", "level", "task", "run_id", "fit_rows")} == {
        "calibrator": name,
        "level": 1,
        "task": "demo",
        "run_id": run_id,
        "fit_rows": 80,
    }
    options = [[-1.0, -3.0], [-2.0, -2.5], [-0.1, -90.0], [-1.0, -np.inf]]
    confidence = load("out/calibrator.json").confidence(options)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    np.testing.assert_allclose(reader()("out/calibrator.json", options), confidence, rtol=1e-12)
    assert set(re.findall(r"\b(?:slope|intercept|edges|temperature)\b", written["formula"])) <= {
        *written["parameters"]
    }
    assert written["clip"] == (1e-6 if written["kind"] in ("affine", "beta") else None)
    assert written["prompt_template"] is None  # the task is not of the catalogue
    card = Path("out/README.md").read_text()
    (ece,) = rows_of(
        LAKE,
        f"from recalibration where level = 1 and calibrator = '{name}' and metric = 'ece'",
    )
    interval = f"{ece['ci_low']:.3f} to {ece['ci_high']:.3f}"
    gain = f"{ece['gain']:+.3f} | {ece['gain_low']:+.3f} to {ece['gain_high']:+.3f}"
    assert f"| ece | {ece['before']:.3f} | {ece['value']:.3f} | {interval} | {gain} | 80 |" in card
    assert card.count("## Evaluation") == 1
    assert ("at level 0, of the unpruned model" in card) == (name == UNPRUNED_TEMPERATURE)


def test_no_calibrator_is_written_unless_requested(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(revision, "run", "demo")
    assert export(monkeypatch, capsys, "--level", "1")[0] == 0
    assert not Path("out/calibrator.json").exists()
    assert "Calibrator" not in Path("out/README.md").read_text()


def test_one_of_several_runs_has_to_be_chosen(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_ids = {task: add_run(revision, task, task) for task in ("boolq", "rte")}
    code, output = export(monkeypatch, capsys, "--level", "1", "--calibrator", "temperature")
    assert code == 1
    assert (
        "a calibrator belongs to one task, and several runs have level 1; choose one with --run"
        in output
    )
    assert all(f"{run_id} ({task}, float32)" in output for task, run_id in run_ids.items())
    assert not Path("out").exists()
    chosen = ("--calibrator", "temperature", "--run", run_ids["rte"])
    assert export(monkeypatch, capsys, "--level", "1", *chosen)[0] == 0
    assert json.loads(Path("out/calibrator.json").read_text())["task"] == "rte"


def test_a_missing_calibrator_is_named_and_nothing_is_written(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(level: int, name: str = "temperature") -> str:
        code, output = export(monkeypatch, capsys, "--level", str(level), "--calibrator", name)
        assert code == 1
        assert not Path("out").exists()
        return output

    assert "sweep first" in refused(1)
    few = add_run(revision, "few", "demo", n=30)
    assert "calibrator softer: choose temperature, affine" in refused(1, "softer")
    assert "is fitted to a run of this model and strategy with level 2" in refused(2)
    assert f"run {few} has none at level 1: 30 scored rows: at least 50 are needed" in refused(1)


def test_a_run_without_analysis_is_named(
    revision: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(revision, "bare", "demo", is_analysed=False)
    code, output = export(monkeypatch, capsys, "--level", "1", "--calibrator", "beta")
    assert code == 1
    assert f"run {run_id} has none at level 1; `prunelake analyse` fits calibrators" in output
    assert not Path("out").exists()


def test_a_larger_loss_is_a_warning(revision: str) -> None:
    run = find_run(LAKE, add_run(revision, "run", "boolq"))
    found: ExportedCalibrator = find_calibrator(LAKE, [run], 1, "temperature")
    content = json.loads(found.to_json())
    assert content["prompt_template"] == "{passage}\nQuestion: {question}?\nAnswer:"
    assert found.warning is None  # level 1 is overconfident, so a temperature helps
    worse = replace(found, metrics=found.metrics.with_columns(gain=-pl.col("gain")))
    assert worse.warning is not None
    assert "temperature is no improvement: on held-out examples of boolq it increases nll (" in (
        worse.warning
    )
    assert f"Warning: {worse.warning}." in worse.card_section()
