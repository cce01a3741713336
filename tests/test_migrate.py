"""Older lakes: two golden ones are migrated, stopped at any step, and refused where need be."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake import migrate as module
from prunelake.cli.app import main
from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit as store_commit
from prunelake.lake import locks, parquet, views
from prunelake.lake import read as store_read
from prunelake.lake.compact import compact
from prunelake.lake.parquet import FILES_KEY
from prunelake.lake.verify import Kind, doctor
from prunelake.migrate import Frames, migrate
from prunelake.schema.analysis_tables import DERIVED
from prunelake.schema.run_tables import TABLES
from prunelake.spec import content_hash
from tests.lake_rows import small_run
from tests.stopping import Stopped, before_every_step

GOLDEN = Path(__file__).parent / "data" / "lakes"
ALL = (*TABLES, *DERIVED)


@pytest.fixture
def before_overlaps(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN / "before_overlap_matrix", tmp_path / "before")


@pytest.fixture
def format_0(tmp_path: Path) -> Path:
    return shutil.copytree(GOLDEN / "format_0", tmp_path / "zero")


def from_0(frames: Frames) -> Frames:
    """Predictions by bytes, from what format 0 has: the log-likelihoods and the bytes."""
    rows = frames["predictions"]
    chosen = [
        max(range(len(sizes)), key=lambda i: values[i] / sizes[i])
        for values, sizes in rows.select("option_log_likelihoods", "option_bytes").iter_rows()
    ]
    rows = rows.with_columns(prediction_norm=pl.Series(chosen, dtype=pl.Int32))
    rows = rows.with_columns(is_correct_norm=pl.col("prediction_norm") == pl.col("gold"))
    return {**frames, "predictions": rows.select(*TABLES["predictions"].schema)}


@pytest.fixture
def a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that a version with format 0 in its past would have."""
    monkeypatch.setattr(module, "STEPS", {0: from_0})


def contents(lake: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in lake.rglob("*.parquet")}


def old_rows(lake: Path, table: str) -> pl.DataFrame:
    frames = [pl.read_parquet(path) for path in (lake / table).glob("*.parquet")]
    return pl.concat(frames).sort(TABLES[table].key)


def test_the_lake_of_an_earlier_commit_is_migrated_by_the_command(
    before_overlaps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def doctor_says(*options: str) -> tuple[int, str]:
        command = ["prunelake", "doctor", "--lake", str(before_overlaps), *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), capsys.readouterr().out

    before = {name: store_read.read_table(before_overlaps, name) for name in TABLES}
    measured = {p: b for p, b in contents(before_overlaps).items() if p.parent.name in TABLES}
    assert store_read.read_table(before_overlaps, "overlap_matrix").is_empty()
    code, told = doctor_says()
    assert code == 1
    assert told.count("run `prunelake doctor --migrate`") == 2
    code, told = doctor_says("--migrate")
    assert code == 0
    assert told.count("analysed run") == 3
    assert "3 runs, every file as it was written" in told
    # What was measured was of this format already.
    assert measured.items() <= contents(before_overlaps).items()
    for name, rows in before.items():
        assert_frame_equal(store_read.read_table(before_overlaps, name), rows)
    overlaps = store_read.read_table(before_overlaps, "overlap_matrix")
    expected = pl.concat(
        pl.read_parquet(p) for p in (GOLDEN / "before_overlap_matrix" / "overlaps").iterdir()
    )
    key = DERIVED["overlap_matrix"].key
    assert_frame_equal(overlaps.sort(key), expected.sort(key))
    assert not (before_overlaps / "overlaps").exists()
    assert doctor_says("--migrate") == (0, doctor_says()[1])


@pytest.mark.usefixtures("a_step")
def test_a_lake_of_format_0_becomes_one_of_this_format(format_0: Path) -> None:
    ids = {json.loads(i)["name"]: r for r, i in old_rows(format_0, "runs").select(
        "run_id", "identity").iter_rows()}  # fmt: skip
    assert {f.kind for f in doctor(format_0)} == {Kind.foreign}
    assert {f.remedy for f in doctor(format_0)} == {"run `prunelake doctor --migrate`"}
    with pytest.raises(WrongFormat, match=r"of format 0.*doctor --migrate"):
        store_read.read_table(format_0, "runs")
    old = {name: old_rows(format_0, name) for name in TABLES if name not in ("bounds", "reported")}
    done = migrate(format_0)
    assert sorted(done) == sorted(
        [f"migrated run {run_id} from format 0 to 1" for run_id in ids.values()]
        + [f"analysed run {run_id}" for run_id in ids.values()]
    )
    assert doctor(format_0) == []
    for name, rows in old.items():
        found = store_read.read_table(format_0, name).sort(TABLES[name].key)
        kept = [column for column in rows.columns if column != "files"]
        assert_frame_equal(found.select(kept), rows.select(kept))
    # All options are of two bytes here: by bytes the same one is the likeliest.
    predictions = store_read.read_table(format_0, "predictions")
    assert predictions["prediction_norm"].equals(predictions["prediction"])
    assert predictions["is_correct_norm"].equals(predictions["is_correct"])
    for run_id, identity in (
        store_read.read_table(format_0, "runs").select("run_id", "identity").iter_rows()
    ):
        assert content_hash(json.loads(identity))[:16] == run_id
        assert json.loads(identity)["format_version"] == 0
    assert views.query(format_0, "select distinct run_id from metrics").height == 3
    assert {parquet.format_of(path) for path in contents(format_0)} == {1}
    assert migrate(format_0) == []
    # A run of this version joins them, and all are merged.
    store_commit.write_run(format_0, *small_run("new"))
    compact(format_0)
    assert {*store_read.run_ids(format_0)} > {*ids.values()}


@pytest.mark.usefixtures("a_step")
def test_a_migrated_run_lists_the_files_that_a_sweep_would_have_written(
    format_0: Path, tmp_path: Path
) -> None:
    migrate(format_0)
    for row in store_read.read_table(format_0, "runs").to_dicts():
        files = row.pop("files")
        frames = {
            n: store_read.read_table(format_0, n, [row["run_id"]]) for n in TABLES if n != "runs"
        }
        store_commit.write_run(tmp_path / "fresh", row, frames)
        for entry in files:
            path = tmp_path / "fresh" / entry["table"] / f"{row['run_id']}.parquet"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]


@pytest.mark.usefixtures("a_step")
def test_a_migration_that_ends_at_any_step_loses_no_run_and_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunelake.analysis.analyse.analyse", lambda *_: None)
    finished = shutil.copytree(GOLDEN / "format_0", tmp_path / "finished")
    migrate(finished)
    expected = {name: store_read.read_table(finished, name) for name in TABLES}
    for last in range(1, 1000):
        lake = shutil.copytree(GOLDEN / "format_0", tmp_path / str(last))

        def stop(step: int, last: int = last) -> None:
            if step == last:
                raise Stopped

        with before_every_step(stop):
            try:
                migrate(lake)
                break
            except Stopped:
                pass
        migrate(lake)
        for name, rows in expected.items():
            assert_frame_equal(store_read.read_table(lake, name), rows)
        assert {f.kind for f in doctor(lake)} <= {Kind.unanalysed, Kind.left_over}
    assert last > 20


def test_a_newer_format_and_one_without_a_step_are_refused_and_nothing_is_changed(
    format_0: Path,
) -> None:
    before = contents(format_0)
    with pytest.raises(WrongFormat, match="of format 0, and no step leads from format 0 to 1"):
        migrate(format_0)
    assert contents(format_0) == before
    for version in ("2", "many"):
        head = min((format_0 / "runs").glob("*.parquet"))
        keys = {"prunelake.format_version": version}
        pl.read_parquet(head).write_parquet(head, metadata=keys)
        before = contents(format_0)
        with pytest.raises(WrongFormat, match=f"{head.name} is of format {version}, this.*; use"):
            migrate(format_0)
        assert contents(format_0) == before


@pytest.mark.usefixtures("a_step")
def test_a_damaged_old_run_stays_as_it_is(format_0: Path) -> None:
    path = next((format_0 / "layers").glob("[0-9a-f]*.parquet"))
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"{path.name} is not what was written; delete"):
        migrate(format_0)
    assert (format_0 / "runs" / path.name).is_file()


def test_a_step_that_leaves_another_schema_writes_nothing(
    format_0: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(format_0)
    monkeypatch.setattr(module, "STEPS", {0: lambda frames: frames})
    with pytest.raises(CorruptFile, match="migrated, has a table predictions with another schema"):
        migrate(format_0)
    assert contents(format_0) == before


def test_a_lake_that_is_being_written_is_not_migrated(before_overlaps: Path) -> None:
    with locks.locked(before_overlaps), pytest.raises(LakeError, match="by another process"):
        migrate(before_overlaps)


def test_every_file_says_its_format_and_table(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        store_commit.write_run(tmp_path, *small_run(name))
    from prunelake.analysis.analyse import analyse

    for run_id in store_read.run_ids(tmp_path):
        analyse(tmp_path, run_id)

    def says() -> set[tuple[str, str, bool]]:
        return {
            (path.parent.name, told["prunelake.table"], "prunelake.sha256" in told)
            for path in contents(tmp_path)
            if (told := parquet.metadata(path))  # of this format version, or it raises
        }

    expected = {
        (name, name, name in ("runs", "analyses"))
        for name, table in {**TABLES, **DERIVED}.items()
        if not table.is_optional or name in ("recalibrated", "calibrators")
    }
    assert says() == expected
    compact(tmp_path)
    assert says() == expected


@pytest.mark.usefixtures("a_step")
def test_a_segment_that_only_says_that_it_is_old_is_not_lost(tmp_path: Path) -> None:
    for name in ("one", "two"):
        store_commit.write_run(tmp_path, *small_run(name))
    compact(tmp_path)
    (head,) = (tmp_path / "runs").iterdir()
    keys = {"prunelake.format_version": "0", "prunelake.files": parquet.says(head)[FILES_KEY]}
    pl.read_parquet(head).write_parquet(head, metadata=keys)
    before = contents(tmp_path)
    with pytest.raises(CorruptFile, match="says format 0, but lists files of 1"):
        migrate(tmp_path)
    assert contents(tmp_path) == before
