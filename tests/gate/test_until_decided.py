"""A gate until decided: its rounds, its limits, and the looks of its runs."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.errors import InvalidSpec
from prunelake.gate.gate_file import Gate
from prunelake.gate.results import GateResult, Result
from prunelake.gate.until_decided import GateRound, gate_until_decided
from prunelake.settings import Settings
from prunelake.spec import Rows
from prunelake.sweeps.until_decided.run import Limits
from tests.support.sweeps.fake_sweeps import FakeSweeps
from tests.support.sweeps.simulated_sweeps import SimulatedSweeps


@pytest.fixture(autouse=True)
def _without_recalibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """No criterion here reads recalibrated metrics, which take most of the time of an analysis."""
    monkeypatch.setattr("prunelake.analysis.analyse.recalibrate", lambda *_: {"metrics": []})


FLIPS = {"metric": "flip_rate", "task": "opinions", "margin": 0.1}


def gate(*criteria: dict[str, Any], **fields: Any) -> Gate:
    given = {"model": "tiny", "levels": (1,), "rows": {"sample": 60}} | fields
    return Gate.model_validate(given | {"criteria": criteria or (FLIPS,)})


def decided(
    sweeps: SimulatedSweeps | FakeSweeps, wanted: Gate | None = None, **limits: Any
) -> tuple[GateResult, list[GateRound]]:
    rounds: list[GateRound] = []
    settings = Settings(lake=sweeps.lake)
    result = gate_until_decided(wanted or gate(), Limits(**limits), settings, sweeps, rounds.append)
    return result, rounds


@pytest.mark.parametrize(
    ("flipped", "result", "most"),
    [(0.3, Result.failed, None), (0.02, Result.passed, None), (0.1, Result.undecided, 160)],
)
def test_rounds_end_when_the_gate_is_decided(
    tmp_path: Path, flipped: float, result: str, most: int | None
) -> None:
    sweeps = SimulatedSweeps(tmp_path, flipped)
    found, rounds = decided(sweeps, max_rows=most)
    assert found.result == result
    assert [item.number for item in rounds] == [*range(len(rounds))]
    assert rounds[0].result.result == Result.undecided  # a pilot decides nothing
    pilot, *later = sweeps.specs
    assert pilot.sequential is None
    assert pilot.explain is None  # no criterion needs explanations
    sizes = [spec.rows.sample or 0 for spec in sweeps.specs]
    assert sizes == sorted(sizes)
    assert sizes[-1] == most if most else sizes[-1] < 410
    designs = [spec.sequential for spec in later if spec.sequential]
    assert [len(design.looks) for design in designs] == [*range(len(later))]
    # The plan decides a flip rate of half or one and a half margins: 389 rows, and 5 % more.
    assert {(design.margin, design.planned_rows) for design in designs} == {(0.1, most or 410)}
    again = SimulatedSweeps(tmp_path, flipped)
    assert decided(again, max_rows=most)[0] == found
    assert again.specs == sweeps.specs


def test_without_time_for_a_round_nothing_is_decided(tmp_path: Path) -> None:
    found, rounds = decided(SimulatedSweeps(tmp_path, 0.9), max_minutes=1e-9)
    assert (found.result, len(rounds)) == (Result.undecided, 1)
    assert found.checks[0].note == "only the pilot was measured, and it decides nothing"


def test_a_pilot_with_all_rows_is_looked_at_once(tmp_path: Path) -> None:
    sweeps = SimulatedSweeps(tmp_path, 0.3)
    found, rounds = decided(sweeps, max_rows=60)
    assert (found.result, len(rounds)) == (Result.failed, 2)
    assert [spec.rows.sample for spec in sweeps.specs] == [60, 60]


def test_explanations_grow_only_where_a_check_is_open(tmp_path: Path) -> None:
    explained = {"metric": "comprehensiveness", "task": "opinions", "margin": 0.05}
    wanted = gate(explained, levels=(1, 2), rows={"sample": 100})
    sweeps = FakeSweeps(tmp_path, {2: {"comprehensiveness": 0.04}}, 0.2)
    found, rounds = decided(sweeps, wanted, max_rows=300)
    assert [check.result for check in found.checks] == [Result.passed, Result.undecided]
    pilot, *later = sweeps.specs
    assert pilot.explain is not None
    assert (pilot.explain.rows, pilot.explain.levels) == (24, (0, 1, 2))
    last = later[-1].explain
    assert last is not None
    assert last.rows == 300
    ((level, rows),) = last.level_rows
    assert (level, rows < 300) == (1, True)
    assert str(rounds[0]) == "pilot: opinions 100 rows, 24 explained"
    assert str(rounds[-1]).endswith("300 explained. " + found.summary)
    assert found.summary.endswith("Candidates: level 1 has passed, level 2 is undecided.")


def test_rows_that_cannot_grow_are_refused(tmp_path: Path) -> None:
    sweeps = SimulatedSweeps(tmp_path, 0.1)
    for wanted, message in (
        (Gate(runs=("a",), criteria=(gate().criteria)), "the rows of given runs cannot grow"),
        (gate(rows=Rows(numbers=(1, 2))), "row numbers cannot grow"),
    ):
        with pytest.raises(InvalidSpec, match=message):
            decided(sweeps, wanted)
    with pytest.raises(InvalidSpec, match="max rows 50: the pilot alone has 60 rows"):
        decided(sweeps, max_rows=50)
    assert sweeps.specs == []
