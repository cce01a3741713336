"""The flow `sweeps`: several sweeps of one model in one process."""

from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prunelake.errors import ModelError
from prunelake.flows.sweeps import sweeps
from prunelake.lake import read
from prunelake.models.loading import load_model
from prunelake.settings import Settings
from prunelake.spec import Rows
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps import run, steps
from tests.support.sweeps.small_sweep import small_sweep


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")


def test_the_model_is_loaded_and_its_removal_order_measured_once(
    settings: Settings, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small_sweep(tiny_folder)
    specs = [spec, spec.model_copy(update={"rows": Rows(numbers=(7, 8)), "explain": None})]
    loaded: list[Any] = []
    ordered: list[Any] = []

    def load(*arguments: Any) -> Any:
        loaded.append(arguments)
        return load_model(*arguments)

    def order(*arguments: Any) -> Any:
        ordered.append(arguments)
        return removal_order(*arguments)

    monkeypatch.setattr(steps, "load_model", load)
    monkeypatch.setattr(steps, "removal_order", order)
    monkeypatch.setattr(steps, "analyse_run", analyse_run)
    monkeypatch.setattr(steps, "_model_cache", {})
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        run_ids = sweeps(specs, settings)
    assert read.run_ids(settings.lake) == sorted(run_ids)
    assert (len(run_ids), len(loaded), len(ordered)) == (2, 1, 1)


def analyse_run(*_: Any, log: Any) -> None:  # a step
    """Analyse nothing: statistics are not the subject here."""


def test_a_sweep_that_fails_does_not_stop_the_others(
    settings: Settings, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(spec: Any, *_: Any) -> str:
        if spec.task == "opinions":
            raise ModelError("no such layer")
        finished.append(spec.task)
        return "a run"

    finished: list[str] = []
    monkeypatch.setattr(run, "run_sweep", evaluate)
    spec = small_sweep(tiny_folder)
    specs = [spec.model_copy(update={"task": task}) for task in ("opinions", spec.task)]
    with (
        temporary_settings(restore_defaults=[PREFECT_API_URL]),
        pytest.raises(ModelError, match="no such layer"),
    ):
        sweeps(specs, settings)
    assert finished == [spec.task]
