"""Which runs newer revisions supersede, and that removing them leaves all others as they are."""

import datetime
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.errors import LakeError
from prunelake.lake import commit as store_commit
from prunelake.lake import read as store_read
from prunelake.lake import views
from prunelake.lake.compact import compact
from prunelake.lake.publish import publish
from prunelake.lake.retention import find_superseded, retire
from prunelake.lake.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.spec import SweepSpec
from tests.support.interruptions import Interrupted, before_every_file_change
from tests.support.lake_rows import identity_of, small_analysis, small_run
from tests.support.profile_rows import profiled


def add(
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
    store_commit.write_run(lake, run | about | {"spec": spec.model_dump_json()}, written)
    store_commit.write_analysis(lake, *small_analysis(str(run["run_id"])))
    return str(run["run_id"])


def add_import(lake: Path, name: str, day: int) -> str:
    run, written = small_run(name)
    identity = '{"kind": "import"}'
    when = datetime.datetime(2026, 3, day, tzinfo=datetime.UTC)
    about = {"created_at": when, "revision": "", "identity": identity, "spec": '{"source": "a"}'}
    store_commit.write_run(lake, run | about, written)
    store_commit.write_analysis(lake, *small_analysis(str(run["run_id"])))
    return str(run["run_id"])


def names(lake: Path, **options: Any) -> list[str]:
    ids = {identity_of(n)[1]: n for n in ("a1", "a2", "a3", "a1 again", "b", "c", "d", "i1", "i2")}
    return [ids[run.run_id] for run in find_superseded(lake, **options)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three revisions of a model, and a run each of another task, other levels, another model."""
    folder = tmp_path / "lake"
    for day, name in enumerate(("a1", "a2", "a3"), 1):
        add(folder, name, day, revision=name)
    add(folder, "b", 1, revision="a1", task="everyday_knowledge")
    add(folder, "c", 1, revision="a1", levels=(0, 1))
    add(folder, "d", 1, revision="a1", model="hub:org/other")
    return folder


def test_older_revisions_of_the_same_settings_are_superseded(lake: Path) -> None:
    assert names(lake) == ["a1", "a2"]
    assert {run.superseded_by for run in find_superseded(lake)} == {identity_of("a3")[1]}
    assert names(lake, keep=2) == ["a1"]
    assert names(lake, keep=3) == []


def test_a_pinned_revision_is_of_the_same_model(tmp_path: Path) -> None:
    add(tmp_path, "a1", 1, revision="a1", model="hub:org/model@v1")
    add(tmp_path, "a2", 2, revision="a2", model="hub:org/model")
    assert names(tmp_path) == ["a1"]


def test_a_revision_that_is_swept_again_is_the_newest(tmp_path: Path) -> None:
    add(tmp_path, "a1", 1, revision="a1")
    add(tmp_path, "a2", 2, revision="a2")
    add(tmp_path, "a1 again", 3, revision="a1")
    assert names(tmp_path) == ["a2"]


def test_imports_are_kept_unless_asked(tmp_path: Path) -> None:
    for day, name in enumerate(("i1", "i2"), 1):
        add_import(tmp_path, name, day)
    assert names(tmp_path) == []
    assert names(tmp_path, imports=True) == ["i1"]


@pytest.mark.parametrize("is_compacted", [False, True])
def test_what_is_superseded_goes_whole_and_all_else_stays(lake: Path, is_compacted: bool) -> None:
    gone = {identity_of("a1")[1], identity_of("a2")[1]}
    if is_compacted:
        compact(lake)
    before = {
        name: store_read.read_table(lake, name).sort(table.key)
        for name, table in {**RUN_TABLES, **ANALYSIS_TABLES}.items()
    }
    snapshot = publish(lake, analyse)
    published = snapshot.read_bytes()
    with duckdb.connect(snapshot, read_only=True) as reader:
        assert {run.run_id for run in retire(lake)} == gone
        # Who reads the snapshot reads on.
        assert reader.execute("select count(*) from runs").fetchone() == (6,)
    assert snapshot.read_bytes() == published
    assert verify_lake(lake) == []
    for name, rows in before.items():
        left = store_read.read_table(lake, name).sort({**RUN_TABLES, **ANALYSIS_TABLES}[name].key)
        assert_frame_equal(left, rows.filter(~rows["run_id"].is_in(list(gone))))
    assert find_superseded(lake) == []
    assert not any(p.stem in gone for p in lake.rglob("*.parquet"))
    with duckdb.connect(publish(lake, analyse), read_only=True) as reader:
        assert reader.execute("select count(*) from runs").fetchone() == (4,)


def test_profiles_go_with_the_last_run_of_their_revision(lake: Path) -> None:
    for revision in ("a1", "a2", "a3", "of no run"):
        profiled(lake, revision, revision=revision)
    retire(lake)
    left = store_read.read_table(lake, "profiles")["revision"].sort().to_list()
    assert left == ["a1", "a3", "of no run"]  # b, c and d are of a1
    assert store_read.read_table(lake, "efficiency")["profile_id"].n_unique() == 3
    assert verify_lake(lake) == []


@pytest.mark.parametrize("is_compacted", [False, True])
def test_no_part_of_a_run_is_ever_seen_and_the_next_finishes(
    lake: Path, tmp_path: Path, is_compacted: bool
) -> None:
    if is_compacted:
        compact(lake)
    runs = set(store_read.run_ids(lake))
    gone = {identity_of("a1")[1], identity_of("a2")[1]}

    def look(copy: Path) -> None:
        left = set(store_read.run_ids(copy))
        assert runs - gone <= left
        assert store_read.read_table(copy, "predictions").height == 2 * len(left)
        assert store_read.read_table(copy, "layers").height == 2 * len(left)

    for last in range(1, 1000, 3):
        copy = shutil.copytree(lake, tmp_path / "copies" / str(last))

        def stop(step: int, last: int = last, copy: Path = copy) -> None:
            if step == last:
                look(copy)
                raise Interrupted

        with before_every_file_change(stop):
            try:
                retire(copy)
                break
            except Interrupted:
                pass
        look(copy)
        retire(copy)
        assert set(store_read.run_ids(copy)) == runs - gone
    assert last > 10


def test_the_command_lists_and_removes_only_when_told(
    lake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["prunelake", "retire", "--lake", str(lake), *options])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return captured.out if not exit_.value.code else captured.err

    ids = store_read.run_ids(lake)
    listed = told()
    assert f"superseded: run {identity_of('a1')[1]} of 2026-03-01 (hub:org/model a1" in listed
    assert f"by run {identity_of('a3')[1]}" in listed
    assert "runs superseded: 2; add --delete to remove them" in listed
    assert store_read.run_ids(lake) == ids
    assert "--keep" in told("--delete", "--keep", "0")
    assert store_read.run_ids(lake) == ids
    assert told("--delete", "--keep", "2").count("removed: run") == 1
    assert told("--delete").count("removed: run") == 1
    assert told("--delete") == "no run is superseded\n"
    assert len(store_read.run_ids(lake)) == 4
    assert views.query(lake, "select count(*) as n from runs")["n"].item() == 4


def test_no_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        retire(tmp_path / "absent")
