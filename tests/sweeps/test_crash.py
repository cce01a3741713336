"""Sweeps that are killed, run out of disk space, or run at the same time."""

import errno
import math
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal

from prunelake.errors import LakeError
from prunelake.lake import read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.findings import FindingKind
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.partial_runs import ORDER_SHARD
from prunelake.models.loading import load_model
from prunelake.schema.run_tables import CELL_TABLES
from prunelake.settings import Settings
from prunelake.spec import Rows, SweepSpec
from prunelake.sweeps import steps
from prunelake.sweeps.plan import plan_sweep
from tests.support.endurance import IS_ENDURANCE, repeats
from tests.support.sweeps.interrupted_sweeps import (
    Place,
    Undisturbed,
    ended,
    letters_spec,
    new_place,
    sweep_undisturbed,
)
from tests.support.sweeps.sweep_processes import (
    Sweep,
    quick_sweep,
    start_command,
    start_sweep_process,
    tables,
)

SHARES = (1, 2 / 3, 1 / 8, 0.45)
"""The kills of the short form, as shares of the steps up to the commit of the whole run."""

KILLS = repeats(len(SHARES), 40)
SIGKILLED = -9
NOBODY = 65534


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> SweepSpec:
    return letters_spec(tmp_path_factory.mktemp("letters"))


@pytest.fixture(scope="module")
def undisturbed(spec: SweepSpec, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    # The first process also starts the process from which the others are forked.
    for _ in range(repeats(1, 2)):
        result = sweep_undisturbed(spec, tmp_path_factory.mktemp("undisturbed"))
    return result


@pytest.fixture
def place(tmp_path: Path, undisturbed: Undisturbed) -> Place:
    return new_place(tmp_path, undisturbed.run_id)


def test_a_sweep_killed_at_any_moment_continues(
    spec: SweepSpec, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    drawn = random.Random(7)
    kills = lakes = resumed = 0
    place = None
    while kills < KILLS or place is not None:
        if place is None:
            place = new_place(tmp_path / str(lakes), undisturbed.run_id)
            lakes += 1
        finished = place.finished()
        # Kill before a step on disk; `make endurance` also kills at any time. The last may finish.
        deadly_step, lifetime = None, math.inf
        if kills < len(SHARES):
            is_whole = finished >= {*undisturbed.shards}
            deadly_step = None if is_whole else int(SHARES[kills] * undisturbed.commit_step)
        elif kills < KILLS and kills % 2:
            deadly_step = drawn.randrange(len(undisturbed.steps))
        elif kills < KILLS:
            lifetime = drawn.uniform(0, undisturbed.seconds)
        began = time.perf_counter()
        process = start_sweep_process(spec, place.settings, place.ledger, deadly_step)
        while process.is_alive() and time.perf_counter() - began < lifetime:
            undisturbed.matches(place)
            process.join(0.1)
        process.kill()
        assert ended(process) in (0, SIGKILLED)
        if deadly_step == undisturbed.commit_step and not finished:
            assert place.finished() >= {*undisturbed.shards}
            assert not read.has_run(place.lake, undisturbed.run_id)
        kills += process.exitcode == SIGKILLED
        computed = place.computed()
        assert not finished & set(computed), "a finished shard was computed again"
        assert len(computed) == len(set(computed))
        resumed += bool(finished and computed)
        undisturbed.matches(place)
        assert list(find_damage(place.lake)) == []
        for finding in verify_lake(place.lake):
            assert finding.kind is not FindingKind.damaged
        if process.exitcode == 0:
            undisturbed.ends(place)
            place = None
    assert resumed >= repeats(2, 3), "too few sweeps went on to prove anything"


def test_two_simultaneous_sweeps_of_one_spec_share_the_work(
    spec: SweepSpec, undisturbed: Undisturbed, place: Place
) -> None:
    processes = [start_sweep_process(spec, place.settings, place.ledger) for _ in range(2)]
    assert [ended(process) for process in processes] == [0, 0]
    assert sorted(place.computed()) == sorted(undisturbed.shards)
    undisturbed.ends(place)


def test_a_waiting_sweep_continues_the_work_of_a_killed_sweep(
    spec: SweepSpec, undisturbed: Undisturbed, place: Place
) -> None:
    first = start_sweep_process(spec, place.settings, place.ledger, len(undisturbed.steps) // 2)
    while not place.finished():
        first.join(0.01)
    second = start_sweep_process(spec, place.settings, place.ledger)
    assert [ended(first), ended(second)] == [SIGKILLED, 0]
    # At most the shard that was running at the kill was begun twice.
    computed = place.computed()
    assert set(computed) == set(undisturbed.shards)
    assert len(computed) <= len(undisturbed.shards) + 1
    undisturbed.ends(place)


def test_simultaneous_sweeps_that_share_cells_survive_a_kill(
    spec: SweepSpec, undisturbed: Undisturbed, place: Place
) -> None:
    larger = spec.model_copy(update={"rows": Rows(first=14)})
    larger_id = plan_sweep(larger, place.settings).identity.run_id
    killed = start_sweep_process(larger, place.settings, place.ledger, undisturbed.commit_step // 2)
    first = start_sweep_process(spec, place.settings, place.ledger)
    assert [ended(killed), ended(first)] == [SIGKILLED, 0]
    assert not read.has_run(place.lake, larger_id)
    assert ended(start_sweep_process(larger, place.settings, place.ledger)) == 0
    found = tables(place.lake)
    for table in CELL_TABLES:
        expected = undisturbed.tables[table.name].filter(run_id=undisturbed.run_id)
        examples = pl.col("example_id").is_in(expected["example_id"].to_list())
        for run_id in (undisturbed.run_id, larger_id):
            rows = found[table.name].filter(examples, run_id=run_id)
            assert_frame_equal(rows.drop("run_id"), expected.drop("run_id"), abs_tol=1e-4)
    (copied,) = found["runs"].filter(run_id=larger_id)["copied"]
    assert undisturbed.run_id in {row["run_id"] for row in copied}
    assert list((place.lake / ".shards").iterdir()) == []
    assert list(find_damage(place.lake)) == []


def refusal(sweep: Sweep, spec: SweepSpec, settings: Settings) -> str | None:
    """The error of a sweep that could not write; None if the sweep finished."""
    try:
        sweep(spec, settings)
    except LakeError as error:
        return str(error)
    return None


def test_a_failed_write_is_one_clear_line_and_the_next_sweep_continues(
    spec: SweepSpec, undisturbed: Undisturbed, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write in each folder fails once: each sweep comes one folder further.

    In the long form every file fails once. The disk is full or the lake is read-only, in turn.
    """
    failures = [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EROFS)]
    failed: list[Path] = []

    def identified(path: Path) -> tuple[Path, str, str]:
        """The part of a file name that is the same in each attempt."""
        return path.parent, path.name.split(".")[0], path.suffix

    def failing(write: Callable[..., None]) -> Callable[..., None]:
        def fail_once(source: Path, target: Path) -> None:
            known = [identified(path) if IS_ENDURANCE else path.parent for path in failed]
            place_of = identified(target) if IS_ENDURANCE else target.parent
            # Files beside the tables only save time.
            if place_of in known or target.parent == place.lake:
                write(source, target)
            else:
                failed.append(target)
                raise failures[len(failed) % 2]

        return fail_once

    work = plan_sweep(spec, place.settings)
    loaded = load_model(work.source)
    monkeypatch.setattr(steps, "plan_sweep", lambda *_: work)
    monkeypatch.setattr(steps, "cached_model", lambda *_: loaded)
    sweep = quick_sweep(monkeypatch)
    for name in ("link", "replace"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    attempts = 1
    while message := refusal(sweep, spec, place.settings):
        attempts += 1
        assert str(failures[len(failed) % 2].strerror) in message
        assert "make room or fix the permissions" in message
        assert "\n" not in message
        assert not list(place.lake.rglob("*.tmp"))
        if attempts % repeats(6, 1) == 0:
            undisturbed.matches(place)
            assert list(find_damage(place.lake)) == []
    assert attempts == len(failed) + 1
    # A sweep has no published numbers and no candidates. This sweep has no texts, one round, and
    # too few rows to recalibrate.
    assert {path.parent.name for path in failed} >= {*undisturbed.tables, undisturbed.run_id} - {
        "reported",
        "levels",
        "texts",
        "looks",
        "recalibrated_reliability",
    }
    assert any(path.stem == ORDER_SHARD for path in failed) or not IS_ENDURANCE
    undisturbed.ends(place)


def test_a_full_disk_is_one_clear_line(
    spec: SweepSpec, undisturbed: Undisturbed, place: Place
) -> None:
    # Enough for the removal order, too little for predictions and later tables.
    limited = start_sweep_process(spec, place.settings, place.ledger, None, 4200)
    assert ended(limited) == 1
    (message,) = [line for line in place.noted() if "could not be written" in line]
    assert f" of run {undisturbed.run_id} could not be written to {place.lake}: " in message
    assert os.strerror(errno.EFBIG) in message
    assert place.finished() <= {ORDER_SHARD}
    assert not undisturbed.matches(place)
    assert {finding.kind for finding in verify_lake(place.lake)} == {FindingKind.unanalysed}
    assert ended(start_sweep_process(spec, place.settings, place.ledger)) == 0
    undisturbed.ends(place)


def test_an_unwritable_lake_is_refused_before_any_work(
    spec: SweepSpec, undisturbed: Undisturbed
) -> None:
    # Not below pytest's own folder, which other users cannot read.
    with tempfile.TemporaryDirectory() as folder:
        place = new_place(Path(folder), undisturbed.run_id)
        for path in (place.folder, place.lake, *place.lake.iterdir()):
            if path.is_dir():
                path.chmod(0o555)
        user = NOBODY if os.geteuid() == 0 else None  # root may write everywhere
        process = start_sweep_process(spec, place.settings, place.ledger, None, None, user)
        assert ended(process) == 1
        (message,) = place.computed()
        assert f"lake {place.lake} cannot be written (PermissionError" in message
        assert not undisturbed.matches(place)
        for path in (place.folder, place.lake):
            path.chmod(0o755)


def test_the_next_command_continues_after_a_kill_and_after_ctrl_c(
    spec: SweepSpec, undisturbed: Undisturbed, place: Place
) -> None:
    file = place.folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True)))
    arguments = ["sweep", str(file), "--lake", str(place.lake)]
    # The removal order has three files, a shard that explains has five.
    for deadly_file, number, exit_code in (
        (3 + 5 + 3, signal.SIGKILL, SIGKILLED),
        (5 + 3, signal.SIGINT, 130),
        (None, 0, 0),
    ):
        output = place.folder / f"{deadly_file}.log"
        process = start_command(arguments, place.settings, output, deadly_file, number)
        assert ended(process) == exit_code
        if number == signal.SIGINT:
            assert output.read_text().splitlines()[-1] == (
                "interrupted; finished examples are kept. To continue: prunelake "
                + " ".join(arguments)
            )
    assert "(2 of 4 shards were there already)" in output.read_text()
    assert undisturbed.matches(place)
    assert list((place.lake / ".shards").iterdir()) == []
