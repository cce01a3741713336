"""Write a run: its files, its manifest, and the runs that are refused."""

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.manifests import decode
from prunelake.schema.run_tables import PREDICTIONS, RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION
from tests.support.lakes.lake_files import (
    data_file_of,
    manifest_of,
    set_format_version,
    stored_manifest,
)
from tests.support.runs.lake_rows import bound, frames, identity_of, prediction, run_row, small_run

RUN_ID = identity_of("run")[1]


REQUIRED = [name for name, table in RUN_TABLES.items() if not table.is_optional]


def test_a_written_run_reads_back_equal(tmp_path: Path) -> None:
    run, written = small_run()
    assert commit.write_run(tmp_path, run, written)
    assert read.has_run(tmp_path, RUN_ID)
    assert read.run_ids(tmp_path) == [RUN_ID]
    for name, frame in written.items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    row = read.read_table(tmp_path, "runs").row(0, named=True)
    assert row == run


def test_the_manifest_lists_rows_and_hash_of_every_file(tmp_path: Path) -> None:
    run, written = small_run()
    commit.write_run(tmp_path, run, written)
    path = manifest_of(tmp_path, RUN_ID)
    assert path == tmp_path / "runs" / f"{RUN_ID}.1.json"
    manifest = decode(path)
    rows = {name: frame.height for name, frame in written.items()} | {"runs": 1}
    assert manifest.format_version == FORMAT_VERSION
    assert {name: file.rows for name, file in manifest.files.items()} == {
        name: rows[name] for name in REQUIRED
    }
    for name, file in manifest.files.items():
        content = (tmp_path / name / f"{RUN_ID}.1.{file.sha256[:16]}.parquet").read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))
    (owner,) = manifest.owners.items()
    assert owner[0] == RUN_ID
    assert owner[1].commit == manifest.files["runs"].sha256[:16]
    assert owner[1].rows == {name: rows[name] for name in REQUIRED}


def test_any_parquet_reader_reads_the_files(tmp_path: Path) -> None:
    run, written = small_run()
    commit.write_run(tmp_path, run, written)
    for name, frame in written.items():
        if name in REQUIRED:
            assert_frame_equal(pl.read_parquet(data_file_of(tmp_path, name, RUN_ID)), frame)


def test_an_empty_table_is_written_too(tmp_path: Path) -> None:
    commit.write_run(tmp_path, run_row(), frames())
    assert data_file_of(tmp_path, "attributions", RUN_ID).is_file()
    assert read.read_table(tmp_path, "attributions").is_empty()
    assert list(find_damage(tmp_path)) == []


def test_an_optional_table_is_a_file_only_if_it_has_rows(tmp_path: Path) -> None:
    run, written = small_run()
    given = written | {"bounds": RUN_TABLES["bounds"].frame([bound(RUN_ID, 0, "test:0")])}
    del given["reported"]
    del given["levels"]
    assert commit.write_run(tmp_path, run, given)
    assert commit.write_run(tmp_path, *small_run("without"))
    assert [*(tmp_path / "bounds").iterdir()] == [data_file_of(tmp_path, "bounds", RUN_ID)]
    assert not (tmp_path / "reported").exists()
    assert_frame_equal(read.read_table(tmp_path, "bounds"), given["bounds"])
    assert read.read_table(tmp_path, "reported").is_empty()
    assert set(stored_manifest(tmp_path, RUN_ID).files) == {*REQUIRED, "bounds"}
    assert list(find_damage(tmp_path)) == []
    data_file_of(tmp_path, "bounds", RUN_ID).unlink()
    assert read.read_table(tmp_path, "runs")["run_id"].to_list() == [identity_of("without")[1]]


def test_files_of_a_dead_writer_are_not_read(tmp_path: Path) -> None:
    leftover = tmp_path / "bounds" / f"{RUN_ID}.1.0123456789abcdef.parquet"
    leftover.parent.mkdir()
    RUN_TABLES["bounds"].frame([bound(RUN_ID, 0, "test:9")]).write_parquet(leftover)
    commit.write_run(tmp_path, *small_run())
    assert read.read_table(tmp_path, "bounds").is_empty()


def test_writing_a_run_again_touches_nothing(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("*/*")}
    assert not commit.write_run(tmp_path, run_row(), frames())
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("*/*")}


def test_a_retired_run_is_written_again_as_the_next_generation(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    before = set(tmp_path.glob("*/*"))
    retire_owner(tmp_path, RUN_TABLES, stored_manifest(tmp_path, RUN_ID), RUN_ID)
    assert not read.has_run(tmp_path, RUN_ID)
    run, written = small_run()
    written["layers"] = written["layers"].head(1)
    assert commit.write_run(tmp_path, run, written)
    assert manifest_of(tmp_path, RUN_ID).name == f"{RUN_ID}.2.json"
    assert_frame_equal(read.read_table(tmp_path, "layers"), written["layers"])
    assert before < set(tmp_path.glob("*/*"))
    assert list(find_damage(tmp_path)) == []


PREDICTION = prediction(RUN_ID, 0, "test:0", [-1.0, -2.0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"predictions": PREDICTIONS.frame([PREDICTION]).drop("gold")},
            r"table predictions of run .*: another schema: .*gold Int32",
        ),
        (
            {
                "predictions": PREDICTIONS.frame([PREDICTION]).select(
                    pl.col("level"), pl.exclude("level")
                )
            },
            "not in the order run_id, level",
        ),
        (
            {"predictions": PREDICTIONS.frame([PREDICTION, PREDICTION])},
            r"the key \(run_id, level, example_id\) is not unique",
        ),
        (
            {"predictions": PREDICTIONS.frame([PREDICTION | {"example_id": None}])},
            "null in the key",
        ),
        (
            {"predictions": PREDICTIONS.frame([PREDICTION | {"run_id": "other"}])},
            "rows of run other instead of",
        ),
        ({"unknown": PREDICTIONS.frame([])}, "differing: unknown"),
    ],
)
def test_frames_with_another_schema_or_key_are_refused(
    tmp_path: Path, changed: dict[str, pl.DataFrame], message: str
) -> None:
    with pytest.raises(LakeError, match=message):
        commit.write_run(tmp_path, run_row(), frames() | changed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"run_id": "../escape"}, r"run_id '\.\./escape' cannot be the file name"),
        (
            {"run_id": "segment-1"},
            "run_id 'segment-1' cannot be the file name .* not begin with segment-",
        ),
        ({"duration_s": "long"}, "a row of runs has a value of another type"),
        ({"mood": "good"}, "differing: mood"),
    ],
)
def test_an_invalid_run_row_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(LakeError, match=message):
        commit.write_run(tmp_path, run_row(**columns), frames())


def test_an_unwritable_lake_is_found_before_the_work(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "lake"
    commit.check_writable(folder)
    assert [*folder.iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match=r"file cannot be written \(FileExistsError"):
        commit.check_writable(tmp_path / "file")


def test_a_run_of_another_format_is_refused(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    set_format_version(manifest_of(tmp_path, RUN_ID), 1)
    before = {p: p.read_bytes() for p in tmp_path.glob("*/*")}
    with pytest.raises(WrongFormat, match="has format 1"):
        commit.check_writable(tmp_path)
    with pytest.raises(WrongFormat, match="has format 1"):
        commit.write_run(tmp_path, *small_run("another"))
    assert {p: p.read_bytes() for p in tmp_path.glob("*/*")} == before
