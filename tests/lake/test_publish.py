"""Publish a lake as a snapshot, and replace it when the lake has changed."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.logging import disable_run_logger

from prunelake.analysis.analyse import analyse
from prunelake.errors import LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake import publish as module
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.paths import SNAPSHOT_FILE
from prunelake.lake.publish import is_current, publish, snapshot_id
from prunelake.lake.sql import view_files, views
from prunelake.lake.sql.bound_query import attach
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION
from prunelake.settings import Settings
from tests.support.lakes.lake_files import (
    data_file_of,
    flip_byte,
    manifest_of,
    set_format_version,
    stored_manifest,
)
from tests.support.paths import ROOT
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import identity_of, small_run
from tests.support.runs.profile_rows import profiled

# The rows of these tests have nothing to exclude or bound, and are too few to calibrate.
EMPTY = {
    *("excluded", "seed_agreement", "bounds", "reported", "lake.bounds", "lake.reported"),
    *("lake.levels", "texts", "paired_texts", "lake.texts"),
    *("recalibrated_reliability", "lake.recalibrated_reliability"),
}


DROPS = {(method, op): 0.5 for op in ("replace", "delete_text") for method in ("random", "lime")}


OPENS = """
import sys, duckdb
snapshot = duckdb.connect(sys.argv[1], read_only=True)
assert "prunelake" not in sys.modules
print(snapshot.sql("select count(*) from accuracy").fetchall())
"""


@pytest.fixture(scope="module")
def analysed_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two small runs with their analyses; tests copy it."""
    folder = tmp_path_factory.mktemp("analysed")
    for name in ("first", "second"):
        run, frames = small_run(name)
        commit.write_run(folder, run, frames)
        analyse(folder, str(run["run_id"]))
    return folder


@pytest.fixture(scope="module")
def published_lake(analysed_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake of two small runs with its snapshot; tests copy it."""
    folder = shutil.copytree(analysed_lake, tmp_path_factory.mktemp("published") / "lake")
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def full_lake(analysed_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake with an explained run and a profile, too; tests only read it."""
    folder = shutil.copytree(analysed_lake, tmp_path_factory.mktemp("full") / "lake")
    explained_run(folder, "explained", DROPS)
    profiled(folder, removal_order=[2, 1])
    publish(folder, analyse)
    return folder


@pytest.fixture
def lake(analysed_lake: Path, tmp_path: Path) -> Path:
    """A lake of two small runs, in a folder whose name needs quoting."""
    return shutil.copytree(analysed_lake, tmp_path / "o'lake")


@pytest.fixture
def published(published_lake: Path, tmp_path: Path) -> Path:
    """The same with its snapshot."""
    return shutil.copytree(published_lake, tmp_path / "o'lake")


def rows(path: Path, sql: str) -> pl.DataFrame:
    """The answer of the snapshot on disk, even if this process has an older file open."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        attach(connection, path, "published")
        connection.execute("use published")
        return views.select(connection, sql)


def names_in(lake: Path) -> list[str]:
    """The names in the lake's folder, without the publishers' lock, which stays."""
    return sorted(p.name for p in lake.iterdir() if p.name != ".publish.lock")


def test_the_snapshot_describes_its_content(published: Path) -> None:
    (actual,) = rows(published / SNAPSHOT_FILE, "from snapshot").to_dicts()
    assert actual["snapshot_id"] == snapshot_id(read.read_content(published))
    assert actual["run_count"] == 2
    assert actual["format_version"] == FORMAT_VERSION
    assert re.fullmatch(r"\d+\.\d+.*", actual["code_version"])
    assert actual["created_at"].tzname() == "UTC"


def test_a_new_profile_makes_a_snapshot_outdated(published: Path) -> None:
    ids = {snapshot_id(read.read_content(published))}
    for name in ("first", "again"):
        profile_id = profiled(published, name)
        assert not is_current(published)
        path = publish(published, analyse)
        assert is_current(published)
        assert rows(path, "from profiles")["profile_id"].to_list() == [profile_id]
        actual = rows(path, "from snapshot")["snapshot_id"].item()
        assert actual == snapshot_id(read.read_content(published))
        ids.add(actual)
    assert len(ids) == 3


def test_runs_are_analysed_before_they_are_published(lake: Path) -> None:
    shutil.rmtree(lake / "analyses")
    assert read.unanalysed_run_ids(lake) == read.run_ids(lake)
    path = publish(lake, analyse)
    assert read.unanalysed_run_ids(lake) == []
    assert sorted(rows(path, "from lake.analyses")["run_id"]) == read.run_ids(lake)
    assert set(rows(path, "from lake.metrics")["run_id"]) == set(read.run_ids(lake))


def test_another_analysis_version_makes_a_snapshot_outdated(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = read.run_ids(published)[0]
    with monkeypatch.context() as patch:
        patch.setattr(module, "ANALYSIS_VERSION", ANALYSIS_VERSION + 1)
        assert not is_current(published)
    assert is_current(published)
    stored = stored_manifest(published, run_id, "analyses")
    retire_owner(published, ANALYSIS_TABLES, stored, run_id)
    assert not is_current(published)


def test_a_current_snapshot_is_kept_and_an_older_snapshot_replaced(lake: Path) -> None:
    assert not is_current(lake)
    path = publish(lake, analyse)
    assert path == lake / SNAPSHOT_FILE
    assert is_current(lake)
    before = (path.stat().st_ino, path.read_bytes())
    assert publish(lake, analyse) == path
    assert (path.stat().st_ino, path.read_bytes()) == before
    commit.write_run(lake, *small_run("third"))
    assert not is_current(lake)
    publish(lake, analyse)
    assert is_current(lake)
    assert rows(path, "from runs").height == 3


def test_a_run_that_is_completed_meanwhile_is_in_the_next_snapshot(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read.run_ids(lake)
    content = read.read_content(lake)

    def read_early(folder: Path) -> read.LakeContent:
        commit.write_run(folder, *small_run("third"))
        return content

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_content", read_early)
        path = publish(lake, analyse)
    for table in RUN_TABLES:
        actual = sorted(set(rows(path, f"from lake.{table}")["run_id"]))
        assert actual == ([] if f"lake.{table}" in EMPTY else before)
    assert rows(path, "from snapshot")["snapshot_id"].item() == snapshot_id(content)
    assert not is_current(lake)


def test_publishers_take_turns(lake: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(publish, [lake] * 3, [analyse] * 3)) == {lake / SNAPSHOT_FILE}
    assert rows(lake / SNAPSHOT_FILE, "from runs").height == 2
    assert ".publish" not in names_in(lake)


def test_other_views_make_a_snapshot_of_the_same_runs_outdated(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = shutil.copytree(view_files.sql_folder(), tmp_path / "sql")
    (changed / "added.sql").write_text("create view added as select run_id from runs")
    monkeypatch.setattr(view_files, "sql_folder", lambda: changed)
    assert not is_current(published)
    path = publish(published, analyse)
    assert rows(path, "from added").height == 2


def test_a_reader_of_the_old_snapshot_can_continue(published: Path) -> None:
    path = published / SNAPSHOT_FILE
    with duckdb.connect(path, read_only=True) as reader:
        commit.write_run(published, *small_run("third"))
        publish(published, analyse)
        assert views.select(reader, "from runs").height == 2
        assert views.select(reader, "from accuracy").height == 4
        assert rows(path, "from runs").height == 3
        assert is_current(published)


def fail(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("stage", "had_one"),
    [("replace", True), ("replace", False), ("views", True), ("exit", True)],
)
def test_a_failure_leaves_the_old_snapshot_and_no_temporary_file(
    lake: Path,
    published_lake: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    had_one: bool,
) -> None:
    if had_one:
        shutil.copy(published_lake / SNAPSHOT_FILE, lake)
    commit.write_run(lake, *small_run("third"))
    for run_id in read.unanalysed_run_ids(lake):
        analyse(lake, run_id)
    before = names_in(lake)
    content = (lake / SNAPSHOT_FILE).read_bytes() if had_one else None
    expected: type[BaseException] = LakeError
    message = r"prunelake.duckdb could not be written: .*; make room"
    with monkeypatch.context() as patch:
        if stage == "replace":
            patch.setattr(os, "replace", fail)
        elif stage == "views":
            (tmp_path / "sql").mkdir()
            (tmp_path / "sql" / "broken.sql").write_text("create view broken as from nothing")
            patch.setattr(view_files, "sql_folder", lambda: tmp_path / "sql")
        else:
            patch.setattr(module, "views_hash", lambda: sys.exit(9))
            expected, message = SystemExit, "9"
        with pytest.raises(expected, match=message) as raised:
            publish(lake, analyse)
    assert "\n" not in str(raised.value)
    assert names_in(lake) == before
    assert ((lake / SNAPSHOT_FILE).read_bytes() if had_one else None) == content


@pytest.mark.parametrize("is_analysed", [True, False])
def test_a_damaged_run_is_left_out_and_named(lake: Path, is_analysed: bool) -> None:
    others = read.run_ids(lake)
    damaged = identity_of("third")[1]
    commit.write_run(lake, *small_run("third"))
    if is_analysed:
        analyse(lake, damaged)
    file = data_file_of(lake, "predictions", damaged)
    content = file.read_bytes()
    flip_byte(file)
    path = publish(lake, analyse)
    for name in ("runs", "predictions", "metrics", "lake.analyses"):
        assert sorted(set(rows(path, f"from {name}")["run_id"])) == others
    (row,) = rows(path, "from damaged_runs").to_dicts()
    assert (row["run_id"], row["file"]) == (damaged, f"predictions/{file.name}")
    assert is_current(lake)
    file.write_bytes(content)
    assert not is_current(lake)
    assert sorted(rows(publish(lake, analyse), "from runs")["run_id"]) == sorted([*others, damaged])
    assert rows(path, "from damaged_runs").is_empty()


def test_leftovers_of_a_killed_publisher_are_cleared(lake: Path) -> None:
    (lake / ".publish").mkdir()
    (lake / ".publish" / SNAPSHOT_FILE).write_text("half")
    (lake / SNAPSHOT_FILE).write_text("not a database")
    (lake / f"{SNAPSHOT_FILE}.wal").write_text("of another file")
    assert not is_current(lake)
    assert rows(publish(lake, analyse), "from runs").height == 2
    assert not {".publish", f"{SNAPSHOT_FILE}.wal"} & set(names_in(lake))


def test_a_snapshot_opens_without_prunelake_and_without_the_lake(
    published: Path, tmp_path: Path
) -> None:
    moved = (published / SNAPSHOT_FILE).rename(tmp_path / "results of two runs.duckdb")
    moved.chmod(0o444)
    shutil.rmtree(published)
    actual = subprocess.run(
        [sys.executable, "-I", "-c", OPENS, moved], capture_output=True, text=True, check=True
    )
    assert actual.stdout == "[(4,)]\n"


def test_a_read_only_snapshot_cannot_be_changed(published: Path) -> None:
    path = published / SNAPSHOT_FILE
    before = path.read_bytes()
    with duckdb.connect(path, read_only=True) as snapshot:
        for text in ("delete from lake.runs", "drop view summary", "create table t as select 1"):
            with pytest.raises(duckdb.InvalidInputException, match="read-only"):
                snapshot.execute(text)
    assert path.read_bytes() == before


def test_an_empty_lake_has_an_empty_snapshot(tmp_path: Path) -> None:
    path = publish(tmp_path, analyse)
    assert rows(path, "from summary").is_empty()
    assert rows(path, "from snapshot")["run_count"].item() == 0


def test_no_lake_and_another_format_are_refused(lake: Path, tmp_path: Path) -> None:
    assert not is_current(tmp_path / "absent")
    with pytest.raises(LakeError, match="no lake at"):
        publish(tmp_path / "absent", analyse)
    assert not (tmp_path / "absent").exists()
    set_format_version(manifest_of(lake, identity_of("first")[1]), 1)
    with pytest.raises(WrongFormat, match="format 1"):
        publish(lake, analyse)


def test_the_flow_publishes_once(lake: Path) -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (entrypoint,) = (d["entrypoint"] for d in deployments if d["name"] == "publish")
    flow: Flow[..., Any] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    assert flow.name == "publish"
    # The flow has no task, so its function needs no server.
    with disable_run_logger():
        path = Path(str(flow.fn(Settings(lake=lake))))
        written = path.stat().st_mtime_ns
        assert flow.fn(Settings(lake=lake)) == str(path)
    assert path == lake / SNAPSHOT_FILE
    assert path.stat().st_mtime_ns == written
    assert rows(path, "from runs").height == 2
