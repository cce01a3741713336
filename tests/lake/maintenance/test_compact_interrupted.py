"""Compaction and garbage collection that end at any step, and readers that run meanwhile."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prunelake.lake import read
from prunelake.lake.files import hashed_json, manifests
from prunelake.lake.files.paths import is_segment
from prunelake.lake.maintenance import compact as module
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.sql import views
from prunelake.lake.storage import location
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.lakes.compacted_lakes import (
    DROPS,
    add_run,
    analyse_again,
    assert_same_rows,
    half_compacted,
    open_files,
    problems_beside_missing_analyses,
    table_files,
    table_rows,
    varied_lake,
)
from tests.support.lakes.interruptions import Interrupted, before_every_file_change, stop_at
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import identity_of

NO_GRACE = timedelta(0)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return varied_lake(tmp_path_factory.mktemp("varied"))


@pytest.fixture
def lake(varied: Path, tmp_path: Path) -> Path:
    return shutil.copytree(varied, tmp_path / "o'lake")


@pytest.fixture(params=[2, pytest.param(1_000_000, marks=pytest.mark.endurance)])
def segment_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are full after two analyses, or never full."""
    monkeypatch.setattr(module, "SEGMENT_ROWS", request.param)


def compact_and_collect(lake: Path) -> None:
    compact(lake)
    collect_garbage(lake, NO_GRACE)


@pytest.mark.usefixtures("segment_rows")
def test_a_reader_sees_the_same_at_every_moment(tmp_path: Path) -> None:
    lake = half_compacted(tmp_path)
    expected = table_rows(lake)
    seen = []

    def check(step: int) -> None:
        if step % repeats(9, 1) == 0:
            assert_same_rows(table_rows(lake), expected)
        seen.append(step)

    with before_every_file_change(check):
        compact_and_collect(lake)
    assert len(seen) > 90
    assert_same_rows(table_rows(lake), expected)


@pytest.mark.usefixtures("segment_rows")
def test_an_interrupted_compaction_loses_nothing_and_the_next_finishes(
    tmp_path: Path,
) -> None:
    template = half_compacted(tmp_path / "template")
    expected = table_rows(template)
    # Strides of 19 meet every kind of step.
    for last in range(1, 1000, repeats(19, 1)):
        lake = shutil.copytree(template, tmp_path / str(last))
        with before_every_file_change(stop_at(last)):
            try:
                compact_and_collect(lake)
                break
            except Interrupted:
                pass
        assert_same_rows(table_rows(lake), expected)
        compact_and_collect(lake)
        assert_same_rows(table_rows(lake), expected)
        assert verify_lake(lake) == []
        assert unread_files(lake) == []
    assert last > 90


def unread_files(lake: Path) -> list[Path]:
    """The files of tables that no reader opens, without void manifests."""
    return [
        path
        for path in set(table_files(lake)).difference(open_files(lake))
        if hashed_json.encode(manifests.VOID) != path.read_bytes()
    ]


@given(
    st.lists(
        st.one_of(
            st.just("run"),
            st.tuples(st.just("analyse"), st.integers(0, 9)),
            st.tuples(st.just("compact"), st.integers(1, 60)),
            st.tuples(st.just("collect"), st.integers(1, 60)),
        ),
        max_size=12,
    )
)
@example(["run", "run", "run", ("compact", 1000), "run"])
@settings(max_examples=repeats(5, 50))
def test_readers_see_the_latest_runs_and_analyses_after_any_history(steps: list[Any]) -> None:
    latest: dict[str, int] = {}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_ROWS", 4)
        lake = Path(folder)
        for count, step in enumerate(["run", *steps, ("compact", 1000), ("collect", 1000)]):
            if step == "run":
                latest[add_run(lake, f"run {count}", replicates=count)] = count
            elif step[0] == "analyse":
                run_id = list(latest)[step[1] % len(latest)]
                analyse_again(lake, run_id, replicates=count)
                latest[run_id] = count
            else:
                with before_every_file_change(stop_at(step[1])), suppress(Interrupted):
                    compact(lake) if step[0] == "compact" else collect_garbage(lake, NO_GRACE)
            assert read.run_ids(lake) == sorted(latest)
            actual = read.read_table(lake, "analyses").select("run_id", "replicates")
            assert sorted(actual.iter_rows()) == sorted(latest.items())
            assert read.read_table(lake, "predictions").height == 2 * len(latest)
        assert verify_lake(lake) == []
        assert unread_files(lake) == []
        content = read.read_content(lake)
        for group in (RUN_TABLES, ANALYSIS_TABLES):
            # Beside full segments, a single run keeps its own files.
            assert sum(not is_segment(stored.path) for stored in content.group(group)) <= 1


KILLED = """
import os, signal, sys
from datetime import timedelta
from pathlib import Path
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage

steps = 0

def die_at_step(call):
    def step(*arguments, **named):
        global steps
        steps += 1
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return step

os.link, os.unlink = die_at_step(os.link), die_at_step(os.unlink)
compact(Path(sys.argv[1]))
collect_garbage(Path(sys.argv[1]), timedelta(0))
"""


@pytest.mark.parametrize(
    "step",
    [8, 60, *(pytest.param(step, marks=pytest.mark.endurance) for step in (1, 4, 9, 40, 90))],
)
def test_a_killed_compaction_changes_no_answer(lake: Path, step: int) -> None:
    compact(lake)
    add_run(lake, "another one")
    analyse_again(lake, identity_of("plain")[1], replicates=99)
    explained_run(lake, "one more", DROPS, task="third")
    before = table_rows(lake)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(lake), str(step)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert_same_rows(table_rows(lake), before)
    compact_and_collect(lake)
    assert_same_rows(table_rows(lake), before)
    assert problems_beside_missing_analyses(lake) == []
    assert not [path for path in table_files(lake) if path.name.startswith(".")]


def test_a_reader_at_work_keeps_its_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_run(tmp_path, name)
    expected = table_rows(tmp_path)["predictions"]
    with views.connect(tmp_path) as connection:
        compact(tmp_path)
        assert collect_garbage(tmp_path) == 0
        actual = views.select(connection, "select * from lake.predictions")
    assert_frame_equal(actual.sort(RUN_TABLES["predictions"].key), expected)


@pytest.mark.parametrize("at", ["manifests", "files"])
def test_a_reader_that_slept_through_the_grace_period_reads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    for name in ("one", "two"):
        add_run(tmp_path, name)
    expected = table_rows(tmp_path)["predictions"]
    slept: list[bool] = []

    def sleep() -> None:
        if not slept:
            slept.append(True)
            compact_and_collect(tmp_path)

    if at == "manifests":
        listed = location.list_folder

        def list_and_sleep(*arguments: Any) -> Any:
            paths = listed(*arguments)
            sleep()
            return paths

        monkeypatch.setattr(manifests, "list_folder", list_and_sleep)
    else:
        read_all = manifests.read_group

        def read_and_sleep(*arguments: Any) -> Any:
            group = read_all(*arguments)
            sleep()
            return group

        monkeypatch.setattr(read, "read_group", read_and_sleep)
    actual = views.query(tmp_path, "select * from lake.predictions")
    assert_frame_equal(actual.sort(RUN_TABLES["predictions"].key), expected)
    assert views.query(tmp_path, "from damaged_runs").is_empty()
