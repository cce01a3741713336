import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit as store_commit
from prunelake.lake import compact as module
from prunelake.lake import parquet, views
from prunelake.lake import read as store_read
from prunelake.lake.compact import compact
from prunelake.lake.damage import find_damage
from prunelake.lake.manifests import FILES_KEY
from prunelake.lake.paths import is_segment
from prunelake.lake.publish import publish
from prunelake.lake.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.tables import ALL_TABLES
from tests.support.endurance import repeats
from tests.support.example_runs import explained_run
from tests.support.interruptions import Interrupted, before_every_file_change
from tests.support.lake_files import set_format_version
from tests.support.lake_rows import bound, identity_of, small_analysis, small_run

pytestmark = pytest.mark.usefixtures("few_replicates")

ALL = (*RUN_TABLES, *ANALYSIS_TABLES)
DROPS = {(method, op): 0.5 for op in ("replace", "delete_text") for method in ("random", "lime")}


def add(lake: Path, name: str, analysed: bool = True, **analysis: Any) -> str:
    """A small run in the lake, with a row of bounds where its name says so."""
    run, written = small_run(name)
    run_id = str(run["run_id"])
    if name.startswith("bounded"):
        written["bounds"] = RUN_TABLES["bounds"].frame([bound(run_id, 0, "test:0")])
    assert store_commit.write_run(lake, run, written)
    if analysed:
        store_commit.write_analysis(lake, *small_analysis(run_id, **analysis))
    return run_id


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of runs with and without explanations, bounds and analyses of this version."""
    folder = tmp_path_factory.mktemp("explained")
    explained_run(folder, "explained", DROPS)
    explained_run(folder, "another", DROPS, model="other", task="another")
    add(folder, "plain")
    add(folder, "bounded")
    add(folder, "later", analysed=False)
    add(folder, "older", analysis_version=ANALYSIS_VERSION - 1)
    return folder


@pytest.fixture
def lake(explained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(explained, tmp_path / "o'lake")


def halfway(lake: Path) -> Path:
    """A lake with a segment, a run after it and a newer analysis of a run in the segment."""
    add(lake, "bounded")
    again = add(lake, "again")
    compact(lake)
    store_commit.write_analysis(lake, *small_analysis(again, replicates=99))
    add(lake, "bounded later")
    return lake


def stored(lake: Path) -> dict[str, pl.DataFrame]:
    """The rows of every table; on them alone every view rests."""
    return {
        name: store_read.read_table(lake, name).sort({**RUN_TABLES, **ANALYSIS_TABLES}[name].key)
        for name in ALL
    }


def answers(lake: Path) -> dict[str, pl.DataFrame]:
    """The rows of every view and of every relation below them."""
    with views.connect(lake) as connection:
        names = [*views.describe_views(connection)["view"], *(f"lake.{name}" for name in ALL)]
        return {
            name: views.select(connection, f"select * from {name} order by all") for name in names
        }


def assert_same(found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]) -> None:
    assert found.keys() == expected.keys()
    for name, frame in found.items():
        # Sums over several runs are added in any order: the last bit of a view may differ.
        is_exact = name in ALL or name.startswith("lake.")
        assert_frame_equal(
            frame, expected[name], check_exact=is_exact, rel_tol=1e-12, abs_tol=1e-12
        )


def files_of(lake: Path) -> list[Path]:
    return sorted(path for name in ALL for path in (lake / name).glob("*"))


def without_an_analysis(lake: Path) -> list[str]:
    """What the doctor finds, but for runs that were not analysed to begin with."""
    return [f.problem for f in verify_lake(lake) if f.problem != "missing, or of another version"]


def test_no_answer_changes(lake: Path) -> None:
    before, ids = answers(lake), store_read.run_ids(lake)
    analysed, count = store_read.analysed_run_ids(lake), len(files_of(lake))
    assert compact(lake) == (count, len(files_of(lake)))
    assert_same(answers(lake), before)
    assert store_read.run_ids(lake) == ids
    assert all(store_read.has_run(lake, run_id) for run_id in ids)
    assert store_read.analysed_run_ids(lake) == analysed
    assert without_an_analysis(lake) == []
    heads = {path.parent.name: path for path in files_of(lake) if is_segment(path)}
    # Nothing is left beside the segment but an analysis that nobody reads, until it is replaced.
    older = {lake / name / f"{identity_of('older')[1]}.parquet" for name in ANALYSIS_TABLES}
    assert set(files_of(lake)) == set(heads.values()) | older
    assert heads.keys() == set(ALL) - {"reported"}


def test_the_snapshot_is_the_same(lake: Path, tmp_path: Path) -> None:
    before = publish(lake, analyse)
    first = before.rename(tmp_path / "first.duckdb")
    compact(lake)
    assert_same(snapshot_of(publish(lake, analyse)), snapshot_of(first))


def snapshot_of(path: Path) -> dict[str, pl.DataFrame]:
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        names = [*views.describe_views(connection)["view"], *(f"lake.{name}" for name in ALL)]
        found = {name: views.select(connection, f"from {name} order by all") for name in names}
        found["snapshot"] = views.select(connection, "select * exclude (created_at) from snapshot")
    return found


def test_a_snapshot_stays_current(tmp_path: Path) -> None:
    from prunelake.lake.publish import is_current

    for name in ("one", "two"):
        add(tmp_path, name)
    publish(tmp_path, analyse)
    compact(tmp_path)
    assert is_current(tmp_path)


def test_chosen_runs_are_read_from_a_segment(lake: Path) -> None:
    run_id = identity_of("explained")[1]
    with views.connect(lake, [run_id]) as connection:
        before = views.select(connection, "from metrics order by all")
    compact(lake)
    for name in ("runs", "predictions", "metrics"):
        assert set(store_read.read_table(lake, name, [run_id])["run_id"]) == {run_id}
    with views.connect(lake, [run_id]) as connection:
        assert views.select(connection, "from runs").height == 1
        assert_frame_equal(views.select(connection, "from metrics order by all"), before)


def test_compacting_again_changes_nothing(lake: Path) -> None:
    compact(lake)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files_of(lake)}
    compact(lake)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files_of(lake)} == before


def test_a_run_keeps_the_order_of_its_rows(lake: Path) -> None:
    run_id = identity_of("explained")[1]
    before = store_read.read_table(lake, "deletions", [run_id])
    assert not before.equals(before.sort(RUN_TABLES["deletions"].key))
    compact(lake)
    assert_frame_equal(store_read.read_table(lake, "deletions", [run_id]), before)


def test_a_run_in_a_segment_is_not_written_again(lake: Path) -> None:
    compact(lake)
    assert not store_commit.write_run(lake, *small_run("plain"))
    assert not any((lake / name / f"{identity_of('plain')[1]}.parquet").exists() for name in ALL)


def test_an_analysis_beats_that_of_a_segment_and_joins_the_next(lake: Path) -> None:
    compact(lake)
    plain, older = (identity_of(name)[1] for name in ("plain", "older"))
    for run_id in (plain, older):
        store_commit.write_analysis(lake, *small_analysis(run_id, replicates=99))
    before = answers(lake)
    replicates = dict(before["lake.analyses"].select("run_id", "replicates").iter_rows())
    assert replicates[plain] == replicates[older] == 99
    assert replicates.keys() == store_read.analysed_run_ids(lake)
    compact(lake)
    assert_same(answers(lake), before)
    assert all(is_segment(path) for path in files_of(lake))
    assert without_an_analysis(lake) == []


def test_analyses_of_an_earlier_version_are_dropped(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(lake)
    monkeypatch.setattr("prunelake.lake.manifests.ANALYSIS_VERSION", ANALYSIS_VERSION + 1)
    assert store_read.unanalysed_run_ids(lake) == store_read.run_ids(lake)
    run_id = identity_of("plain")[1]
    newer = small_analysis(run_id, analysis_version=ANALYSIS_VERSION + 1)
    store_commit.write_analysis(lake, *newer)
    compact(lake)
    assert store_read.analysed_run_ids(lake) == {run_id}
    (head,) = (path for path in (lake / "analyses").iterdir() if is_segment(path))
    assert pl.read_parquet(head)["run_id"].to_list() == [run_id]


def test_the_number_of_files_follows_the_rows_and_not_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_ROWS", 8)  # a small run has 2 rows in its largest table
    counts = []
    for i in range(10):
        add(tmp_path, f"run {i}")
        compact(tmp_path)
        counts.append(len(list((tmp_path / "predictions").iterdir())))
    # A closed segment is of four runs, and one is open.
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert {p.name: pl.read_parquet(p).height for p in (tmp_path / "runs").iterdir()}.keys() == {
        p.name for p in (tmp_path / "predictions").iterdir()
    }
    assert sorted(pl.read_parquet(p).height for p in (tmp_path / "runs").iterdir()) == [2, 4, 4]
    # Analyses are one row each here: more of them fit.
    assert len(list((tmp_path / "metrics").iterdir())) == 2
    assert len(store_read.run_ids(tmp_path)) == 10
    assert verify_lake(tmp_path) == []


def test_a_closed_segment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        add(tmp_path, f"run {i}")
    compact(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in files_of(tmp_path)}
    monkeypatch.setattr(module, "SEGMENT_ROWS", 4)
    add(tmp_path, "another")
    compact(tmp_path)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in files_of(tmp_path)}.items()
    assert len(store_read.run_ids(tmp_path)) == 5


@pytest.fixture(params=[2, 1_000_000])
def segment_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are closed after two analyses, or that stay open."""
    monkeypatch.setattr(module, "SEGMENT_ROWS", request.param)


@pytest.mark.usefixtures("segment_rows")
def test_a_reader_sees_the_same_at_every_moment(tmp_path: Path) -> None:
    lake = halfway(tmp_path)
    expected = stored(lake)
    seen = []

    def look(step: int) -> None:
        if step % repeats(5, 1) == 0:
            assert_same(stored(lake), expected)
        seen.append(step)

    with before_every_file_change(look):
        compact(lake)
    assert len(seen) > 30
    assert_same(stored(lake), expected)


@pytest.mark.usefixtures("segment_rows")
def test_a_compaction_that_ends_at_any_step_loses_nothing_and_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    template = halfway(tmp_path / "template")
    expected = stored(template)
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
        assert_same(stored(lake), expected)
        compact(lake)
        assert_same(stored(lake), expected)
        assert verify_lake(lake) == []
        assert len(files_of(lake)) <= len(files_of(finished))
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
def test_whatever_happens_in_any_order_the_latest_is_read(steps: list[Any]) -> None:
    latest: dict[str, int] = {}
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SEGMENT_ROWS", 4)
        lake = Path(folder)
        for count, step in enumerate(["run", *steps, ("compact", 1000)]):
            if step == "run":
                latest[add(lake, f"run {count}", replicates=count)] = count
            elif step[0] == "analyse":
                run_id = list(latest)[step[1] % len(latest)]
                store_commit.write_analysis(lake, *small_analysis(run_id, replicates=count))
                latest[run_id] = count
            else:

                def stop(now: int, last: int = step[1]) -> None:
                    if now == last:
                        raise Interrupted

                with before_every_file_change(stop), suppress(Interrupted):
                    compact(lake)
            assert store_read.run_ids(lake) == sorted(latest)
            found = store_read.read_table(lake, "analyses").select("run_id", "replicates")
            assert sorted(found.iter_rows()) == sorted(latest.items())
            assert store_read.read_table(lake, "predictions").height == 2 * len(latest)
        assert verify_lake(lake) == []
        assert all(is_segment(path) for path in files_of(lake))


KILLED = """
import os, signal, sys
from pathlib import Path
from prunelake.lake.compact import compact

steps = 0

def dying(call):
    def step(*arguments, **named):
        global steps
        steps += 1
        if steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **named)
    return step

os.replace, os.unlink = dying(os.replace), dying(os.unlink)
compact(Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    "step",
    [8, 20, *(pytest.param(step, marks=pytest.mark.endurance) for step in (1, 4, 9, 12, 40))],
)
def test_a_killed_compaction_changes_no_answer(lake: Path, step: int) -> None:
    compact(lake)
    add(lake, "another one")
    store_commit.write_analysis(lake, *small_analysis(identity_of("plain")[1], replicates=99))
    explained_run(lake, "one more", DROPS, task="third")
    before = stored(lake)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(lake), str(step)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert_same(stored(lake), before)
    compact(lake)
    assert_same(stored(lake), before)
    assert without_an_analysis(lake) == []
    assert not [path for path in files_of(lake) if path.name.startswith(".")]


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one segment; tests copy it."""
    folder = tmp_path_factory.mktemp("compacted")
    for name in ("bounded", "bounded later"):
        add(folder, name)
    compact(folder)
    return folder


@pytest.mark.parametrize("table", [name for name in ALL if name != "reported"])
def test_the_doctor_finds_a_flipped_byte_in_a_segment(
    compacted: Path, tmp_path: Path, table: str
) -> None:
    shutil.copytree(compacted, tmp_path, dirs_exist_ok=True)
    assert verify_lake(tmp_path) == []
    (path,) = (tmp_path / table).iterdir()
    content = bytearray(path.read_bytes())
    if table in ("runs", "analyses"):
        frame = pl.read_parquet(path)
        files = {FILES_KEY: pl.read_parquet_metadata(path)[FILES_KEY]}
        column = "duration_s" if table == "runs" else "margin"
        changed = frame.with_columns(pl.col(column) + 1)
        parquet.write(path, ALL_TABLES[table], changed, files)
        problem = "its rows hash to segment-"
    else:
        content[10] ^= 0x01
        path.write_bytes(content)
        problem = "SHA-256 differs"
    findings = verify_lake(tmp_path)
    assert {f.file for f in findings} == {path}
    assert problem in findings[0].problem
    head = tmp_path / ("analyses" if table in ANALYSIS_TABLES else "runs") / path.name
    assert f"delete {head} " in findings[0].remedy


def test_the_doctor_finds_runs_and_rows_that_a_segment_lost(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add(tmp_path, name)
    compact(tmp_path)
    (path,) = (tmp_path / "predictions").iterdir()
    pl.read_parquet(path).head(3).write_parquet(path)
    lost = store_read.run_ids(tmp_path)[1]
    assert f"1 rows of run {lost} instead of the 2 written" in {
        f.problem for f in verify_lake(tmp_path)
    }
    path.unlink()
    assert [(f.file, f.problem) for f in verify_lake(tmp_path)] == [(path, "missing")]


@pytest.mark.parametrize("table", ["layers", "metrics"])
@pytest.mark.parametrize("compacted", [True, False])
def test_a_damaged_file_is_not_merged(tmp_path: Path, table: str, compacted: bool) -> None:
    add(tmp_path, "run")
    if compacted:
        compact(tmp_path)
    (path,) = (tmp_path / table).iterdir()
    content = bytearray(path.read_bytes())
    content[10] ^= 0x01
    path.write_bytes(content)
    add(tmp_path, "another")
    with pytest.raises(CorruptFile, match=f"{path}.*delete"):
        compact(tmp_path)
    assert path.read_bytes() == content
    assert [f.file for f in verify_lake(tmp_path) if "SHA-256" in f.problem] == [path]


def test_what_cannot_be_written_is_one_line_and_changes_nothing(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in files_of(lake)}

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(LakeError, match=r"No space left .* it reads as before: make room"):
            compact(lake)
    assert {path: path.read_bytes() for path in files_of(lake)} == before


def test_no_lake_and_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        compact(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    add(tmp_path, "run")
    compact(tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    set_format_version(path, 1)
    for reads in (compact, store_commit.check_writable, views.connect):
        with pytest.raises(WrongFormat, match="format 1"):
            reads(tmp_path)


def test_an_empty_lake_has_nothing_to_compact(tmp_path: Path) -> None:
    assert compact(tmp_path) == (0, 0)


def test_a_reader_who_meets_a_compaction_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        add(tmp_path, name)
    expected = stored(tmp_path)["predictions"]
    listed = store_read.complete_manifests

    def listed_before(*arguments: Any) -> Any:
        found = listed(*arguments)
        compact(tmp_path)
        return found

    monkeypatch.setattr(views, "complete_manifests", listed_before)
    monkeypatch.setattr(store_read, "complete_manifests", listed_before)
    found = views.query(tmp_path, "select * from lake.predictions")
    assert_frame_equal(found.sort(RUN_TABLES["predictions"].key), expected)
    add(tmp_path, "three")
    assert store_read.read_table(tmp_path, "predictions").height == expected.height + 2


def test_a_reader_who_meets_a_file_that_is_written_again_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, "one")
    expected = stored(tmp_path)["predictions"]
    (path,) = (tmp_path / "predictions").iterdir()
    content = path.read_bytes()
    listed = store_read.complete_manifests
    met: list[Path] = []

    def taken_after_listing(*arguments: Any) -> Any:
        found = listed(*arguments)
        if not met:
            met.append(path)
            path.unlink()
        return found

    def back_when_looked_at(*arguments: Any) -> Any:
        path.write_bytes(content)
        return find_damage(*arguments)

    monkeypatch.setattr(views, "complete_manifests", taken_after_listing)
    monkeypatch.setattr(views, "find_damage", back_when_looked_at)
    found = views.query(tmp_path, "select * from lake.predictions")
    assert met
    assert_frame_equal(found.sort(RUN_TABLES["predictions"].key), expected)
