"""A sweep in child processes, its steps on disk, and its result without disturbance."""

import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.partial_runs import PartialRun
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Rows, SweepSpec
from tests.support.limits import HANG_S
from tests.support.models.tiny_models import tiny_model
from tests.support.models.tiny_tokenizer import tiny_tokenizer
from tests.support.runs.lake_rows import identity_of, small_run
from tests.support.sweeps.sweep_processes import start_sweep_process, tables
from tests.support.tasks.question_task import write_task

OTHER = identity_of("run")[1]
"""The run that a `Place` has already."""


@dataclass(frozen=True)
class Place:
    """A lake for the run of a sweep, and a ledger of the steps of sweeps in it."""

    folder: Path
    run_id: str = ""

    @property
    def settings(self) -> Settings:
        return Settings(lake=self.folder / "lake", cache=self.folder / "cache", device="cpu")

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def finished(self) -> set[str]:
        """The shards, and the removal order, that are finished."""
        return set(PartialRun(self.lake, self.run_id).finished_shards())

    def noted(self) -> list[str]:
        """The new lines of the ledger since the last call."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        self.ledger.unlink(missing_ok=True)
        return lines

    def computed(self) -> list[str]:
        """The shards that were begun since the last read of the ledger."""
        return [line for line in self.noted() if not line.startswith("step ")]


@dataclass(frozen=True)
class Undisturbed:
    """The result of the sweep without disturbance, its steps on disk and its duration."""

    run_id: str
    shards: list[str]
    tables: dict[str, pl.DataFrame]
    without: dict[str, pl.DataFrame]
    steps: list[str]
    seconds: float

    @property
    def commit_step(self) -> int:
        """The index of the step that makes the run visible by creating its manifest."""
        (place,) = (
            place
            for place, step in enumerate(self.steps)
            if step.startswith("step link ") and step.endswith(f"/runs/{self.run_id}.1.json")
        )
        return place

    def matches(self, place: Place) -> bool:
        """Whether the whole run is in a lake; a part of it, or a change of the other run, fails."""
        is_there = read.has_run(place.lake, self.run_id)
        found = tables(place.lake, derived=False)
        if is_there == read.has_run(place.lake, self.run_id):  # else it appeared meanwhile
            for name, frame in found.items():
                assert_frame_equal(frame, (self.tables if is_there else self.without)[name])
        return is_there

    def ends(self, place: Place) -> None:
        """Check that the sweep has finished in this lake, and has left nothing else."""
        for name, frame in tables(place.lake).items():
            assert_frame_equal(frame, self.tables[name])
        assert list((place.lake / ".shards").iterdir()) == []
        assert list(find_damage(place.lake)) == []


def new_place(folder: Path, run_id: str = "") -> Place:
    """A place whose lake already has another run."""
    place = Place(folder, run_id)
    commit.write_run(place.lake, *small_run())
    return place


def letters_spec(folder: Path) -> SweepSpec:
    """A sweep of a model of letters: three shards explain and one shard only predicts."""
    tiny_tokenizer().save_pretrained(folder)
    tiny_model("llama", max_position_embeddings=512).save_pretrained(folder)
    questions = [(n, f"is {n} ye", n % 2) for n in range(14)]
    return SweepSpec(
        model=str(folder),
        task=str(write_task(folder, "questions", questions)),
        rows=Rows(first=12),
        levels=(0, 1, 3),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(
            methods=("input_x_gradient",),
            operators=("replace",),
            fractions=(0.2,),
            rows=9,
            levels=(0,),
            bounds_beam=1,
        ),
    )


def sweep_undisturbed(spec: SweepSpec, folder: Path) -> Undisturbed:
    """The result of a sweep in a new place."""
    place = new_place(folder)
    without = tables(place.lake, derived=False)
    began = time.perf_counter()
    assert ended(start_sweep_process(spec, place.settings, place.ledger)) == 0
    seconds = time.perf_counter() - began
    (run_id,) = set(read.run_ids(place.lake)) - {OTHER}
    noted = place.noted()
    shards = [line for line in noted if not line.startswith("step ")]
    steps_on_disk = [line for line in noted if line.startswith("step ")]
    assert len(shards) == 4
    found = tables(place.lake)
    assert found["bounds"].height > 0
    return Undisturbed(run_id, shards, found, without, steps_on_disk, seconds)


def ended(process: BaseProcess) -> int | None:
    process.join(HANG_S)
    return process.exitcode
