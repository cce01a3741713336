"""Runs that newer revisions supersede: found, and removed without any change to other runs."""

import datetime
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.retention import find_superseded, retire
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.spec import SweepSpec
from tests.support.lakes.compacted_lakes import open_files, table_files
from tests.support.lakes.interruptions import Interrupted, before_every_file_change, stop_at
from tests.support.lakes.lake_files import analysed_run_ids, manifest_of
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run
from tests.support.runs.profile_rows import profiled


def add_sweep(
    lake: Path,
    name: str,
    day: int,
    revision: str,
    model: str = "hub:org/model",
    task: str = "opinions",
    **settings: Any,
) -> str:
    spec = SweepSpec(model=model, task=task, **settings)
    run, written = small_run(name)
    when = datetime.datetime(2026, 3, day, tzinfo=datetime.UTC)
    about = {"created_at": when, "model": model, "revision": revision, "task": task}
    commit.write_run(lake, run | about | {"spec": spec.model_dump_json()}, written)
    commit.write_analysis(lake, *small_analysis(str(run["run_id"])))
    return str(run["run_id"])


def add_import(lake: Path, name: str, day: int) -> str:
    run, written = small_run(name)
    identity = '{"kind": "import"}'
    when = datetime.datetime(2026, 3, day, tzinfo=datetime.UTC)
    about = {"created_at": when, "revision": "", "identity": identity, "spec": '{"source": "a"}'}
    commit.write_run(lake, run | about, written)
    commit.write_analysis(lake, *small_analysis(str(run["run_id"])))
    return str(run["run_id"])


def superseded_names(lake: Path, **options: Any) -> list[str]:
    names = {
        identity_of(n)[1]: n for n in ("a1", "a2", "a3", "a1 again", "b", "c", "d", "i1", "i2")
    }
    return [names[run.run_id] for run in find_superseded(lake, **options)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three revisions of a model, and a run each of another task, other levels, another model."""
    folder = tmp_path / "lake"
    for day, name in enumerate(("a1", "a2", "a3"), 1):
        add_sweep(folder, name, day, revision=name)
    add_sweep(folder, "b", 1, revision="a1", task="everyday_knowledge")
    add_sweep(folder, "c", 1, revision="a1", levels=(0, 1))
    add_sweep(folder, "d", 1, revision="a1", model="hub:org/other")
    return folder


def test_older_revisions_of_the_same_settings_are_superseded(lake: Path) -> None:
    assert superseded_names(lake) == ["a1", "a2"]
    assert {run.superseded_by for run in find_superseded(lake)} == {identity_of("a3")[1]}
    assert superseded_names(lake, keep=2) == ["a1"]
    assert superseded_names(lake, keep=3) == []


def test_a_pinned_revision_belongs_to_the_same_model(tmp_path: Path) -> None:
    add_sweep(tmp_path, "a1", 1, revision="a1", model="hub:org/model@v1")
    add_sweep(tmp_path, "a2", 2, revision="a2", model="hub:org/model")
    assert superseded_names(tmp_path) == ["a1"]


def test_a_revision_that_is_swept_again_is_the_newest(tmp_path: Path) -> None:
    add_sweep(tmp_path, "a1", 1, revision="a1")
    add_sweep(tmp_path, "a2", 2, revision="a2")
    add_sweep(tmp_path, "a1 again", 3, revision="a1")
    assert superseded_names(tmp_path) == ["a2"]


def test_imports_are_kept_by_default(tmp_path: Path) -> None:
    for day, name in enumerate(("i1", "i2"), 1):
        add_import(tmp_path, name, day)
    assert superseded_names(tmp_path) == []
    assert superseded_names(tmp_path, imports=True) == ["i1"]


@pytest.mark.parametrize("is_compacted", [False, True])
def test_superseded_runs_are_removed_and_all_others_stay(lake: Path, is_compacted: bool) -> None:
    removed = {identity_of("a1")[1], identity_of("a2")[1]}
    if is_compacted:
        compact(lake)
    before = {
        name: read.read_table(lake, name).sort(table.key)
        for name, table in {**RUN_TABLES, **ANALYSIS_TABLES}.items()
    }
    snapshot = publish(lake, analyse)
    published = snapshot.read_bytes()
    with duckdb.connect(snapshot, read_only=True) as reader:
        assert {run.run_id for run in retire(lake)} == removed
        # The open snapshot still has all runs.
        assert reader.execute("select count(*) from runs").fetchone() == (6,)
    assert snapshot.read_bytes() == published
    assert verify_lake(lake) == []
    for name, rows in before.items():
        left = read.read_table(lake, name).sort({**RUN_TABLES, **ANALYSIS_TABLES}[name].key)
        assert_frame_equal(left, rows.filter(~rows["run_id"].is_in(list(removed))))
    assert find_superseded(lake) == []
    compact(lake)
    collect_garbage(lake, datetime.timedelta(0))
    assert table_files(lake) == open_files(lake)
    for path in lake.glob("*/*.parquet"):
        assert removed.isdisjoint(pl.read_parquet(path)["run_id"])
    assert verify_lake(lake) == []
    with duckdb.connect(publish(lake, analyse), read_only=True) as reader:
        assert reader.execute("select count(*) from runs").fetchone() == (4,)


def test_profiles_go_with_the_last_run_of_their_revision(lake: Path) -> None:
    for revision in ("a1", "a2", "a3", "of no run"):
        profiled(lake, revision, revision=revision)
    retire(lake)
    left = read.read_table(lake, "profiles")["revision"].sort().to_list()
    assert left == ["a1", "a3", "of no run"]  # b, c and d are of a1
    assert read.read_table(lake, "efficiency")["profile_id"].n_unique() == 3
    assert verify_lake(lake) == []


@pytest.mark.parametrize("is_compacted", [False, True])
def test_an_interrupted_removal_shows_no_part_of_a_run_and_the_next_finishes(
    lake: Path, tmp_path: Path, is_compacted: bool
) -> None:
    if is_compacted:
        compact(lake)
    runs = set(read.run_ids(lake))
    removed = {identity_of("a1")[1], identity_of("a2")[1]}

    def check(copy: Path) -> None:
        left = set(read.run_ids(copy))
        assert runs - removed <= left
        assert read.read_table(copy, "predictions").height == 2 * len(left)
        assert read.read_table(copy, "layers").height == 2 * len(left)

    for last in range(1, 1000):
        copy = shutil.copytree(lake, tmp_path / "copies" / str(last))
        with before_every_file_change(stop_at(last)):
            try:
                retire(copy)
                break
            except Interrupted:
                check(copy)
        retire(copy)
        check(copy)
        assert set(read.run_ids(copy)) == runs - removed
    assert last > 4


def test_a_retired_run_can_be_swept_again(lake: Path) -> None:
    compact(lake)
    retire(lake)
    run_id = add_sweep(lake, "a2", 9, revision="a2")
    assert run_id == identity_of("a2")[1]
    assert manifest_of(lake, run_id).name == f"{run_id}.2.json"
    assert run_id in analysed_run_ids(lake)
    rows = read.read_table(lake, "runs", [run_id])
    assert [when.day for when in rows["created_at"]] == [9]
    compact(lake)
    collect_garbage(lake, datetime.timedelta(0))
    assert read.read_table(lake, "runs", [run_id]).equals(rows)
    assert read.run_ids(lake).count(run_id) == 1


def test_the_command_lists_runs_and_removes_them_only_with_delete(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def output(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["prunelake", "retire", "--lake", str(lake), *options])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return captured.out if not exit_.value.code else captured.err

    ids = read.run_ids(lake)
    listed = output()
    assert f"superseded: run {identity_of('a1')[1]} of 2026-03-01 (hub:org/model a1" in listed
    assert f"newer: run {identity_of('a3')[1]}" in listed
    assert "runs superseded: 2; add --delete to remove them" in listed
    assert read.run_ids(lake) == ids
    assert "--keep" in output("--delete", "--keep", "0")
    assert read.run_ids(lake) == ids
    assert output("--delete", "--keep", "2").count("removed: run") == 1
    assert output("--delete").count("removed: run") == 1
    assert output("--delete") == "no run is superseded\n"
    assert len(read.run_ids(lake)) == 4
    assert views.query(lake, "select count(*) as n from runs")["n"].item() == 4


def test_no_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        retire(tmp_path / "absent")
