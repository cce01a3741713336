"""Compaction merges the files of many runs, and changes no answer."""

import shutil
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.lake import commit, read
from prunelake.lake.files.paths import is_segment
from prunelake.lake.maintenance import compact as module
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import is_current, publish
from prunelake.lake.snapshot_file import MATERIALISED_VIEWS
from prunelake.lake.sql import views
from prunelake.schema.analysis_tables import ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.lakes.compacted_lakes import (
    COMPACTED_TABLES,
    TABLES_WITH_ROWS,
    add_run,
    analyse_again,
    assert_same_rows,
    open_files,
    problems_beside_missing_analyses,
    table_files,
    table_rows,
    varied_lake,
    view_rows,
)
from tests.support.lakes.lake_files import analysed_run_ids, manifest_of
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run

NO_GRACE = timedelta(0)


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return varied_lake(tmp_path_factory.mktemp("varied"))


@pytest.fixture
def lake(varied: Path, tmp_path: Path) -> Path:
    return shutil.copytree(varied, tmp_path / "o'lake")


def test_no_answer_changes_and_garbage_collection_leaves_only_segments(lake: Path) -> None:
    before, ids = view_rows(lake), read.run_ids(lake)
    analysed, own_files = analysed_run_ids(lake), set(table_files(lake))
    count = len(open_files(lake))
    assert compact(lake) == (count, len(open_files(lake)))
    assert own_files < set(table_files(lake))  # readers at work keep their files
    for collected in (False, True):
        if collected:
            collect_garbage(lake, NO_GRACE)
            assert table_files(lake) == open_files(lake)
        assert read.run_ids(lake) == ids
        assert all(read.has_run(lake, run_id) for run_id in ids)
        assert analysed_run_ids(lake) == analysed
        assert problems_beside_missing_analyses(lake) == []
    # Readers open the same files before and after the collection.
    assert_same_rows(view_rows(lake), before)
    assert all(is_segment(path) for path in table_files(lake))
    assert {path.parent.name for path in table_files(lake)} == set(TABLES_WITH_ROWS)


def test_the_snapshot_is_the_same(lake: Path, tmp_path: Path) -> None:
    before = publish(lake, analyse)
    first = before.rename(tmp_path / "first.duckdb")
    compact(lake)
    assert_same_rows(snapshot_of(publish(lake, analyse)), snapshot_of(first))


def snapshot_of(path: Path) -> dict[str, pl.DataFrame]:
    """The rows that a snapshot stores; its other views depend on these only."""
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        names = [*MATERIALISED_VIEWS, *(f"lake.{name}" for name in COMPACTED_TABLES)]
        actual = {name: views.select(connection, f"from {name} order by all") for name in names}
        actual["snapshot"] = views.select(connection, "select * exclude (created_at) from snapshot")
    return actual


def test_a_snapshot_stays_current(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_run(tmp_path, name)
    publish(tmp_path, analyse)
    compact(tmp_path)
    assert is_current(tmp_path)


def test_chosen_runs_are_read_from_a_segment(lake: Path) -> None:
    run_id = identity_of("explained")[1]
    with views.connect(lake, [run_id]) as connection:
        before = views.select(connection, "from metrics order by all")
    compact(lake)
    for name in ("runs", "predictions", "metrics"):
        assert set(read.read_table(lake, name, [run_id])["run_id"]) == {run_id}
    with views.connect(lake, [run_id]) as connection:
        assert views.select(connection, "from runs").height == 1
        assert_frame_equal(views.select(connection, "from metrics order by all"), before)


def test_compacting_again_changes_nothing(lake: Path) -> None:
    compact(lake)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in table_files(lake)}
    compact(lake)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in table_files(lake)} == before


def test_a_run_keeps_the_order_of_its_rows(lake: Path) -> None:
    run_id = identity_of("explained")[1]
    before = read.read_table(lake, "deletions", [run_id])
    assert not before.equals(before.sort(RUN_TABLES["deletions"].key))
    compact(lake)
    assert_frame_equal(read.read_table(lake, "deletions", [run_id]), before)


def test_a_run_in_a_segment_is_not_written_again(lake: Path) -> None:
    compact(lake)
    collect_garbage(lake, NO_GRACE)
    before = table_files(lake)
    assert not commit.write_run(lake, *small_run("plain"))
    assert not commit.write_analysis(lake, *small_analysis(identity_of("plain")[1]))
    assert table_files(lake) == before


def test_a_second_analysis_replaces_the_analysis_in_a_segment(lake: Path) -> None:
    compact(lake)
    collect_garbage(lake, NO_GRACE)
    plain, older = (identity_of(name)[1] for name in ("plain", "older"))
    analyse_again(lake, plain, replicates=99)
    assert commit.write_analysis(lake, *small_analysis(older, replicates=99))
    before = table_rows(lake)
    for compacted in (False, True):
        if compacted:
            compact(lake)
            collect_garbage(lake, NO_GRACE)
        seen = views.query(lake, "select run_id, replicates from lake.analyses")
        replicates = dict(seen.iter_rows())
        assert replicates[plain] == replicates[older] == 99
        assert replicates.keys() == analysed_run_ids(lake)
    assert_same_rows(table_rows(lake), before)
    assert all(is_segment(path) for path in table_files(lake))
    assert problems_beside_missing_analyses(lake) == []


def test_analyses_of_an_earlier_version_are_collected(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(lake)
    monkeypatch.setattr("prunelake.lake.files.manifests.ANALYSIS_VERSION", ANALYSIS_VERSION + 1)
    assert read.unanalysed_run_ids(lake) == read.run_ids(lake)
    run_id = identity_of("plain")[1]
    newer = small_analysis(run_id, analysis_version=ANALYSIS_VERSION + 1)
    commit.write_analysis(lake, *newer)
    compact(lake)
    collect_garbage(lake, NO_GRACE)
    assert analysed_run_ids(lake) == {run_id}
    manifest = manifest_of(lake, run_id, "analyses")
    assert [path for path in (lake / "analyses").iterdir() if path.suffix == ".json"] == [manifest]


def test_the_number_of_files_depends_on_the_rows_and_not_on_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_ROWS", 8)  # a small run has 2 rows in its largest table
    counts = []
    for i in range(10):
        add_run(tmp_path, f"run {i}")
        compact(tmp_path)
        collect_garbage(tmp_path, NO_GRACE)
        counts.append(len(list((tmp_path / "predictions").iterdir())))
    # A closed segment has four runs; one segment is open.
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert sorted(len(m.run_ids) for m in read.complete_runs(tmp_path)) == [2, 4, 4]
    # Analyses have one row each here, so more of them fit.
    assert len(list((tmp_path / "metrics").iterdir())) == 2
    assert table_files(tmp_path) == open_files(tmp_path)
    assert len(read.run_ids(tmp_path)) == 10
    assert verify_lake(tmp_path) == []


def test_a_closed_segment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        add_run(tmp_path, f"run {i}")
    compact(tmp_path)
    before = set(open_files(tmp_path))
    monkeypatch.setattr(module, "SEGMENT_ROWS", 4)
    add_run(tmp_path, "another")
    compact(tmp_path)
    assert before <= set(open_files(tmp_path))
    assert len(read.run_ids(tmp_path)) == 5


def test_an_empty_lake_has_nothing_to_compact(tmp_path: Path) -> None:
    assert compact(tmp_path) == (0, 0)
