"""Garbage collection deletes unread files, after a grace period by the clock of the storage."""

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import DEFAULT_GRACE, FENCE_GRACE, collect_garbage
from prunelake.lake.maintenance.repair import repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.storage.location import storage_clock
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.lakes.compacted_lakes import (
    add_run,
    analyse_again,
    assert_same_rows,
    open_files,
    table_files,
    table_rows,
)
from tests.support.lakes.interruptions import before_every_file_change
from tests.support.lakes.lake_files import data_file_of, flip_byte, manifest_of
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]

NO_GRACE = timedelta(0)

LEFTOVER = "layers/dead.1.0123456789abcdef.parquet"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of one run; not older than the grace period."""
    add_run(tmp_path, "run")
    return tmp_path


def age(path: Path, lake: Path, by: timedelta) -> None:
    """Let a file be older, by the clock of the storage."""
    written = storage_clock(lake) - by.total_seconds()
    os.utime(path, (written, written))


@pytest.mark.parametrize("grace", [DEFAULT_GRACE, timedelta(hours=1)])
def test_a_leftover_is_kept_for_the_grace_period(lake: Path, grace: timedelta) -> None:
    leftovers = [lake / LEFTOVER, lake / "layers" / ".dead.123.tmp"]
    for path in leftovers:
        path.write_bytes(b"rows")
        age(path, lake, grace - timedelta(minutes=1))
    assert collect_garbage(lake, grace) == 0
    for path in leftovers:
        age(path, lake, grace + timedelta(minutes=1))
    assert collect_garbage(lake, grace) == 2
    assert not any(path.exists() for path in leftovers)
    assert (lake / "runs" / "dead.1.json").is_file()  # void: the dead writer cannot commit any more
    assert verify_lake(lake) == []


def test_the_clock_of_this_machine_does_not_count(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lake / LEFTOVER).write_bytes(b"rows")
    now = time.time()
    for skew in (-3600, 3600, 10 * 86400):
        monkeypatch.setattr(time, "time", lambda skew=skew: now + skew)
        assert collect_garbage(lake) == 0


def test_replaced_files_are_deleted_after_the_grace_period(lake: Path) -> None:
    add_run(lake, "other")
    before, own_files = table_rows(lake), set(table_files(lake))
    compact(lake)
    assert collect_garbage(lake) == 0
    # The replaced files are old, but readers may have opened them until the segment existed.
    for path in own_files:
        age(path, lake, 2 * DEFAULT_GRACE)
    assert collect_garbage(lake) == 0
    for path in open_files(lake):
        age(path, lake, DEFAULT_GRACE + timedelta(minutes=1))
    assert collect_garbage(lake) == len(own_files)
    assert table_files(lake) == open_files(lake)
    assert_same_rows(table_rows(lake), before)


def test_retired_files_are_deleted_after_the_grace_period(lake: Path) -> None:
    old = {path for path in table_files(lake) if path.parent.name in ("analyses", "metrics")}
    analyse_again(lake, RUN_ID, replicates=99)
    for path in old:
        age(path, lake, 2 * DEFAULT_GRACE)
    assert collect_garbage(lake) == 0
    (mark,) = (lake / "analyses").glob("*.retired")
    age(mark, lake, DEFAULT_GRACE + timedelta(minutes=1))
    assert collect_garbage(lake) > len(old) - 1
    assert not any(path.exists() for path in old)
    assert read.read_table(lake, "analyses")["replicates"].to_list() == [99]


def test_marks_and_void_manifests_are_deleted_after_a_month(lake: Path) -> None:
    add_run(lake, "kept")
    compact(lake)
    (lake / LEFTOVER).write_bytes(b"rows")
    for manifest in read.complete_runs(lake, [RUN_ID]):
        if manifest.run_ids:
            retire_owner(lake, RUN_TABLES, manifest, RUN_ID)
    collect_garbage(lake, NO_GRACE)
    void = lake / "runs" / "dead.1.json"
    marks = {*lake.glob("*/*.retired")}
    assert void.is_file()
    hiding = lake / "runs" / f"{RUN_ID}.1.retired"
    assert hiding in marks
    for path in (void, *marks):
        age(path, lake, FENCE_GRACE - timedelta(hours=1))
    assert collect_garbage(lake, NO_GRACE) == 0
    for path in (void, *marks):
        age(path, lake, FENCE_GRACE + timedelta(hours=1))
    collect_garbage(lake, NO_GRACE)
    # The segment still has the rows of the retired run.
    assert hiding.is_file()
    assert not void.exists()
    compact(lake)
    collect_garbage(lake, NO_GRACE)
    collect_garbage(lake, NO_GRACE)
    assert not hiding.exists()
    assert read.run_ids(lake) == [identity_of("kept")[1]]
    assert verify_lake(lake) == []


def test_damaged_and_lost_files_are_kept(lake: Path) -> None:
    lost, damaged = add_run(lake, "lost"), add_run(lake, "damaged")
    flip_byte(data_file_of(lake, "layers", RUN_ID))
    flip_byte(manifest_of(lake, damaged), 100)
    manifest_of(lake, lost).unlink()
    kept = {path for path in table_files(lake) if path.parent.name in RUN_TABLES}
    collect_garbage(lake, NO_GRACE)
    assert kept == {path for path in table_files(lake) if path.parent.name in RUN_TABLES}
    assert f"restored run {lost}" in repair(lake, analyse)


def test_a_lake_without_garbage_is_left_alone(lake: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in lake.glob("*/*")}
    assert collect_garbage(lake, NO_GRACE) == 0
    assert {path: path.stat().st_mtime_ns for path in lake.glob("*/*")} == before
    with pytest.raises(LakeError, match="no lake at"):
        collect_garbage(lake / "absent")


def write_run(lake: Path) -> bool:
    return commit.write_run(lake, *small_run("sleeper"))


def write_analysis(lake: Path) -> bool:
    return commit.write_analysis(lake, *small_analysis(RUN_ID, replicates=99))


def merge(lake: Path) -> bool:
    compact(lake)
    return True


@pytest.mark.parametrize("write", [write_run, write_analysis, merge])
def test_a_writer_that_sleeps_at_any_step_commits_all_its_rows(
    tmp_path: Path, write: Callable[[Path], bool]
) -> None:
    """Garbage collection takes it for dead, and deletes its files; then it wakes up."""
    generations = set()
    # Strides of 3 meet every kind of step.
    for last in range(1, 1000, repeats(3, 1)):
        lake = tmp_path / str(last)
        commit.write_run(lake, *small_run())
        commit.write_run(lake, *small_run("other"))
        woken: list[int] = []

        def sleep(step: int, lake: Path = lake, last: int = last, woken: list[int] = woken) -> None:
            if step == last and not woken:
                woken.append(step)
                # Its locks have expired meanwhile.
                (lake / ".maintenance.lock").unlink(missing_ok=True)
                collect_garbage(lake, NO_GRACE)

        with before_every_file_change(sleep):
            assert write(lake)
        if not woken:
            break
        manifests = {path.name.split(".")[1] for path in lake.glob("*/*.json")}
        generations |= manifests
        assert list(find_damage(lake)) == [], last
        for name in ("run", "other", *(["sleeper"] if write is write_run else [])):
            for table, rows in small_run(name)[1].items():
                actual = read.read_table(lake, table, [identity_of(name)[1]])
                assert_frame_equal(actual, rows)
        if write is write_analysis:
            assert read.read_table(lake, "analyses")["replicates"].to_list() == [99]
    assert last > 10
    assert "2" in generations


def test_a_sleeping_writer_of_a_restored_run_finds_it_written(tmp_path: Path) -> None:
    def sleep(step: int) -> None:
        if step == 2 * len(small_run()[1]) and not read.run_ids(tmp_path):
            repair(tmp_path, lambda *_: None)

    (tmp_path / "runs").mkdir()
    with before_every_file_change(sleep):
        commit.write_run(tmp_path, *small_run())
    assert read.run_ids(tmp_path) == [RUN_ID]
    assert list(find_damage(tmp_path)) == []


def test_the_command_deletes_after_the_given_grace_period(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lake / LEFTOVER).write_bytes(b"rows")

    for hours, count in (("1", 0), ("0", 1)):
        arguments = ["prunelake", "gc", "--hours", hours, "--lake", str(lake)]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as exit_:
            main()
        assert not exit_.value.code
        assert capsys.readouterr().out == f"{lake}: deleted files: {count}\n"
    assert not (lake / LEFTOVER).exists()
