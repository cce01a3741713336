"""A compaction that ends at any step, and readers that run during a compaction."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.paths import is_segment
from prunelake.lake.maintenance import compact as module
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.sql import views
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.compacted_lakes import (
    DROPS,
    add_run,
    assert_same_rows,
    half_compacted,
    problems_beside_missing_analyses,
    table_files,
    table_rows,
    varied_lake,
)
from tests.support.endurance import repeats
from tests.support.example_runs import explained_run
from tests.support.interruptions import Interrupted, before_every_file_change
from tests.support.lake_rows import identity_of, small_analysis


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


@pytest.mark.usefixtures("segment_rows")
def test_a_reader_sees_the_same_at_every_moment(tmp_path: Path) -> None:
    lake = half_compacted(tmp_path)
    expected = table_rows(lake)
    seen = []

    def check(step: int) -> None:
        if step % repeats(5, 1) == 0:
            assert_same_rows(table_rows(lake), expected)
        seen.append(step)

    with before_every_file_change(check):
        compact(lake)
    assert len(seen) > 30
    assert_same_rows(table_rows(lake), expected)


@pytest.mark.usefixtures("segment_rows")
def test_an_interrupted_compaction_loses_nothing_and_the_next_finishes(
    tmp_path: Path,
) -> None:
    template = half_compacted(tmp_path / "template")
    expected = table_rows(template)
    finished = shutil.copytree(template, tmp_path / "finished")
    compact(finished)
    # Strides of 7 meet every kind of step.
    for last in range(1, 1000, repeats(7, 1)):
        lake = shutil.copytree(template, tmp_path / str(last))

        def stop(step: int, last: int = last) -> None:
            if step == last:
                raise Interrupted

        with before_every_file_change(stop):
            try:
                compact(lake)
                break
            except Interrupted:
                pass
        assert_same_rows(table_rows(lake), expected)
        compact(lake)
        assert_same_rows(table_rows(lake), expected)
        assert verify_lake(lake) == []
        assert len(table_files(lake)) <= len(table_files(finished))
    assert last > 30


@given(
    st.lists(
        st.one_of(
            st.just("run"),
            st.tuples(st.just("analyse"), st.integers(0, 9)),
            st.tuples(st.just("compact"), st.integers(1, 60)),
        ),
        max_size=12,
    )
)
@settings(max_examples=repeats(6, 50))
def test_readers_see_the_latest_runs_and_analyses_after_any_history(steps: list[Any]) -> None:
    latest: dict[str, int] = {}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_ROWS", 4)
        lake = Path(folder)
        for count, step in enumerate(["run", *steps, ("compact", 1000)]):
            if step == "run":
                latest[add_run(lake, f"run {count}", replicates=count)] = count
            elif step[0] == "analyse":
                run_id = list(latest)[step[1] % len(latest)]
                commit.write_analysis(lake, *small_analysis(run_id, replicates=count))
                latest[run_id] = count
            else:

                def stop(now: int, last: int = step[1]) -> None:
                    if now == last:
                        raise Interrupted

                with before_every_file_change(stop), suppress(Interrupted):
                    compact(lake)
            assert read.run_ids(lake) == sorted(latest)
            actual = read.read_table(lake, "analyses").select("run_id", "replicates")
            assert sorted(actual.iter_rows()) == sorted(latest.items())
            assert read.read_table(lake, "predictions").height == 2 * len(latest)
        assert verify_lake(lake) == []
        assert all(is_segment(path) for path in table_files(lake))


KILLED = """
import os, signal, sys
from pathlib import Path
from prunelake.lake.maintenance.compact import compact

steps = 0

def die_at_step(call):
    def step(*arguments, **named):
        global steps
        steps += 1
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return step

os.replace, os.unlink = die_at_step(os.replace), die_at_step(os.unlink)
compact(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "step",
    [8, 20, *(pytest.param(step, marks=pytest.mark.endurance) for step in (1, 4, 9, 12, 40))],
)
def test_a_killed_compaction_changes_no_answer(lake: Path, step: int) -> None:
    compact(lake)
    add_run(lake, "another one")
    commit.write_analysis(lake, *small_analysis(identity_of("plain")[1], replicates=99))
    explained_run(lake, "one more", DROPS, task="third")
    before = table_rows(lake)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(lake), str(step)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert_same_rows(table_rows(lake), before)
    compact(lake)
    assert_same_rows(table_rows(lake), before)
    assert problems_beside_missing_analyses(lake) == []
    assert not [path for path in table_files(lake) if path.name.startswith(".")]


def test_a_reader_reads_again_after_a_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        add_run(tmp_path, name)
    expected = table_rows(tmp_path)["predictions"]
    listed = read.complete_manifests

    def listed_before(*arguments: Any) -> Any:
        actual = listed(*arguments)
        compact(tmp_path)
        return actual

    monkeypatch.setattr(views, "complete_manifests", listed_before)
    monkeypatch.setattr(read, "complete_manifests", listed_before)
    actual = views.query(tmp_path, "select * from lake.predictions")
    assert_frame_equal(actual.sort(RUN_TABLES["predictions"].key), expected)
    add_run(tmp_path, "three")
    assert read.read_table(tmp_path, "predictions").height == expected.height + 2


def test_a_reader_reads_again_when_a_file_is_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(tmp_path, "one")
    expected = table_rows(tmp_path)["predictions"]
    (path,) = (tmp_path / "predictions").iterdir()
    content = path.read_bytes()
    listed = read.complete_manifests
    met: list[Path] = []

    def taken_after_listing(*arguments: Any) -> Any:
        actual = listed(*arguments)
        if not met:
            met.append(path)
            path.unlink()
        return actual

    def back_when_looked_at(*arguments: Any) -> Any:
        path.write_bytes(content)
        return find_damage(*arguments)

    monkeypatch.setattr(views, "complete_manifests", taken_after_listing)
    monkeypatch.setattr(views, "find_damage", back_when_looked_at)
    actual = views.query(tmp_path, "select * from lake.predictions")
    assert met
    assert_frame_equal(actual.sort(RUN_TABLES["predictions"].key), expected)
