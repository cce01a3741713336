"""A sweep until decided: its rounds, its limits, and the order in which it adds rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunelake.cli import evaluate as evaluate_module
from prunelake.cli.app import app
from prunelake.errors import InvalidSpec
from prunelake.settings import Settings
from prunelake.spec import Explanation, Rows, SweepSpec
from prunelake.sweeps.until_decided.run import Limits, Round, run_until_decided
from tests.support.sweeps.fake_sweeps import FakeSweeps

SPEC = SweepSpec(
    model="tiny", task="opinions", rows=Rows(sample=60), levels=(0, 1, 2, 3), explain=Explanation()
)


def rounds_of(
    lake: Path, losses: Mapping[int, Mapping[str, float]], spread: float = 0.2, **limits: Any
) -> tuple[list[Round], FakeSweeps]:
    sweeps = FakeSweeps(lake, losses, spread)
    settings = Settings(lake=lake)
    return run_until_decided(SPEC, Limits(**{"margin": 0.05} | limits), settings, sweeps), sweeps


LOST = {"accuracy": 0.4, "ece": 0.3}


def test_rounds_end_when_everything_is_decided_and_lost_levels_are_not_explained(
    tmp_path: Path,
) -> None:
    rounds, sweeps = rounds_of(tmp_path, {3: LOST})
    assert rounds[-1].open_cells == ()
    assert len(rounds[0].open_cells) == rounds[0].cell_count == 10
    predictions, pilot, *later = sweeps.specs
    assert predictions.explain is None
    assert pilot.explain is not None
    assert (pilot.explain.rows, pilot.explain.levels) == (24, (0, 1, 2))
    assert pilot.sequential is None
    sizes = [spec.rows.sample or 0 for spec in later]
    assert sizes == sorted(sizes)
    assert all(spec.explain and spec.explain.levels == (0, 1, 2) for spec in later)
    designs = [spec.sequential for spec in later]
    assert [len(design.looks) for design in designs if design] == list(range(len(later)))
    last = designs[-1]
    assert last is not None
    assert [look.run_id for look in last.looks] == [found.run_id for found in rounds[1:-1]]
    assert last.margin == 0.05
    assert rounds[-1].outcome(0.05) == "All 10 questions are decided at a margin of 0.05."


def test_explanations_stop_at_a_level_whose_questions_are_decided(tmp_path: Path) -> None:
    # At 300 rows the loss has an error of 0.017: neither significant nor within the margin.
    losses = {2: {"comprehensiveness": 0.03}, 3: LOST}
    rounds, sweeps = rounds_of(tmp_path, losses, 0.3, max_rows=300)
    explained = rounds[-1].size.explained
    assert explained[1] < explained[2] == 300
    last = sweeps.specs[-1].explain
    assert last is not None
    assert (last.rows, last.level_rows) == (300, ((1, explained[1]),))
    assert rounds[-1].open_cells == ((2, "comprehensiveness"),)
    assert "1 of 10 questions are open at a margin of 0.05: comprehensiveness at level 2" in (
        rounds[-1].outcome(0.05)
    )


def test_the_limits_end_the_rounds(tmp_path: Path) -> None:
    rounds, sweeps = rounds_of(tmp_path / "rows", {}, margin=0.01, max_rows=100)
    assert rounds[-1].size.rows == 100
    assert all(spec.sequential.planned_rows == 100 for spec in sweeps.specs if spec.sequential)
    rounds, _ = rounds_of(tmp_path / "time", {}, margin=0.01, max_minutes=1e-9)
    assert [found.number for found in rounds] == [0]


def test_a_sweep_has_at_most_all_rows_of_the_task(tmp_path: Path) -> None:
    rounds, _ = rounds_of(tmp_path, {}, margin=0.001)
    assert rounds[-1].size.rows == 500
    assert set(rounds[-1].size.explained.values()) == {500}


def test_repeating_a_sweep_asks_for_the_same_rounds(tmp_path: Path) -> None:
    first, _ = rounds_of(tmp_path, {3: LOST})
    again, _ = rounds_of(tmp_path, {3: LOST})
    assert [found.run_id for found in first] == [found.run_id for found in again]


def test_a_sweep_of_predictions_only_is_decided_without_explanations(tmp_path: Path) -> None:
    sweeps = FakeSweeps(tmp_path, {})
    spec = SPEC.model_copy(update={"explain": None})
    rounds = run_until_decided(spec, Limits(margin=0.1), Settings(lake=tmp_path), sweeps)
    assert rounds[-1].open_cells == ()
    assert rounds[-1].size.explained == {}


@pytest.mark.parametrize("limits", [{"margin": 0.0}, {"max_rows": 0}, {"max_minutes": -1.0}])
def test_limits_that_are_not_positive_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec, match="is not above 0"):
        Limits(**limits)


def test_rows_that_cannot_grow_are_refused(tmp_path: Path) -> None:
    numbers = SPEC.model_copy(update={"rows": Rows(numbers=(1, 2))})
    with pytest.raises(InvalidSpec, match="cannot grow"):
        run_until_decided(numbers, Limits(), Settings(lake=tmp_path), str)
    with pytest.raises(InvalidSpec, match="the pilot alone has 60 rows"):
        run_until_decided(SPEC, Limits(max_rows=50), Settings(lake=tmp_path), str)


def test_the_command_prints_the_rounds_and_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = FakeSweeps(tmp_path, {3: LOST})
    monkeypatch.setattr(evaluate_module, "evaluate", lambda spec, _: sweeps(spec))
    options = ["sweep", "--task", "opinions", "--model", "tiny", "--lake", str(tmp_path)]
    options += ["--levels", "0,1,2,3", "--margin", "0.05"]
    result = CliRunner().invoke(app, [*options, "--until", "decided"])
    assert sweeps.specs[0].rows == Rows(sample=100)
    assert "round 1: 140 rows, 52 explained; " in result.output
    assert "All 10 questions are decided at a margin of 0.05." in result.output
    assert result.output.splitlines()[-1].startswith("Next: prunelake recommend --model tiny")
    assert isinstance(CliRunner().invoke(app, options).exception, InvalidSpec)
