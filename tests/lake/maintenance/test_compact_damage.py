"""Damage in segments and in the files that they replace: found, and never merged."""

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake.files.paths import is_segment
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.repair import quarantine
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.sql import views
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from tests.support.lakes.compacted_lakes import (
    TABLES_WITH_ROWS,
    add_run,
    assert_same_rows,
    half_compacted,
    open_files,
    table_files,
    table_rows,
)
from tests.support.lakes.lake_files import (
    analysed_run_ids,
    data_file_of,
    flip_byte,
    manifest_of,
    set_format_version,
)
from tests.support.runs.lake_rows import identity_of

NO_GRACE = timedelta(0)


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one segment, and the files that it replaces; tests copy it."""
    folder = tmp_path_factory.mktemp("compacted")
    for name in ("bounded", "bounded later"):
        add_run(folder, name)
    compact(folder)
    return folder


@pytest.fixture
def lake(compacted: Path, tmp_path: Path) -> Path:
    return shutil.copytree(compacted, tmp_path / "o'lake")


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
def test_a_flipped_byte_in_a_segment_is_found_and_changes_no_answer(lake: Path, table: str) -> None:
    assert verify_lake(lake) == []
    expected = table_rows(lake)
    path = data_file_of(lake, table, identity_of("bounded")[1])
    assert is_segment(path)
    flip_byte(path)
    (finding,) = verify_lake(lake)
    assert finding.file == path
    assert "SHA-256 differs" in finding.problem
    retry = "run `prunelake analyse`" if table in ANALYSIS_TABLES else "sweep again"
    assert finding.remedy.endswith(f"`prunelake doctor --quarantine` and {retry}")
    # Readers take the rows from the replaced files until these are deleted.
    assert_same_rows(table_rows(lake), expected)
    assert path not in open_files(lake)
    with views.connect(lake) as connection:
        damaged = views.select(connection, "from damaged_runs")
    assert set(damaged["file"]) == {f"{table}/{path.name}"}


def test_a_damaged_segment_without_the_replaced_files_hides_its_runs(lake: Path) -> None:
    collect_garbage(lake, NO_GRACE)
    run_id = identity_of("bounded")[1]
    flip_byte(data_file_of(lake, "layers", run_id))
    other = add_run(lake, "another")
    assert set(read.read_table(lake, "layers")["run_id"]) == {other}
    assert set(read.read_table(lake, "metrics")["run_id"]) == {other}
    with pytest.raises(CorruptFile, match="SHA-256 differs"):
        read.read_table(lake, "layers", [run_id])
    assert len(quarantine(lake)) == 2
    assert add_run(lake, "bounded") == run_id
    assert set(read.read_table(lake, "layers")["run_id"]) == {run_id, other}
    assert analysed_run_ids(lake) == {run_id, other}


@pytest.mark.parametrize("table", ["runs", "analyses"])
def test_a_damaged_manifest_of_a_segment_changes_no_answer(lake: Path, table: str) -> None:
    expected = table_rows(lake)
    path = manifest_of(lake, identity_of("bounded")[1], table)
    flip_byte(path, 100)
    assert {finding.file for finding in verify_lake(lake)} == {path}
    assert_same_rows(table_rows(lake), expected)
    quarantine(lake)
    assert verify_lake(lake) == []
    assert_same_rows(table_rows(lake), expected)


@pytest.mark.parametrize("table", ["runs", "analyses"])
def test_damage_to_a_replaced_manifest_hides_nothing(lake: Path, table: str) -> None:
    expected = table_rows(lake)
    run_id = identity_of("bounded")[1]
    (path,) = (lake / table).glob(f"{run_id}*.json")
    flip_byte(path, 100)
    assert read.read_content(lake).damaged == []
    assert read.has_run(lake, run_id)
    assert {finding.file for finding in verify_lake(lake)} == {path}
    quarantine(lake)
    assert not path.exists()
    assert verify_lake(lake) == []
    assert_same_rows(table_rows(lake), expected)


def test_a_missing_file_of_a_segment_is_found(lake: Path) -> None:
    collect_garbage(lake, NO_GRACE)
    path = data_file_of(lake, "predictions", identity_of("bounded")[1])
    path.unlink()
    (finding, *_) = verify_lake(lake)
    assert (finding.file, finding.problem) == (path, "missing")


@pytest.mark.parametrize("table", ["layers", "metrics"])
@pytest.mark.parametrize("is_compacted", [True, False])
def test_a_damaged_file_is_not_merged(tmp_path: Path, table: str, is_compacted: bool) -> None:
    run_id = add_run(tmp_path, "run")
    if is_compacted:
        add_run(tmp_path, "neighbour")
        compact(tmp_path)
        collect_garbage(tmp_path, NO_GRACE)
    path = data_file_of(tmp_path, table, run_id)
    content = flip_byte(path)
    others = {add_run(tmp_path, name) for name in ("another", "more")}
    compact(tmp_path)
    assert path.read_bytes() == content
    assert [f.file for f in verify_lake(tmp_path) if "SHA-256" in f.problem] == [path]
    for other in others:
        merged = data_file_of(tmp_path, table, other)
        assert is_segment(merged)
        assert set(pl.read_parquet(merged)["run_id"]) == others


def test_a_failed_write_is_an_error_of_one_line_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = half_compacted(tmp_path)
    before = {path: path.read_bytes() for path in table_files(lake)}

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        with pytest.raises(LakeError, match=r"reads as before: .*No space left .*; make room"):
            compact(lake)
    assert {path: path.read_bytes() for path in table_files(lake)} == before


def test_no_lake_and_another_format_are_refused(lake: Path, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        compact(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    set_format_version(manifest_of(lake, identity_of("bounded")[1]), 1)
    for reads in (compact, commit.check_writable, views.connect):
        with pytest.raises(WrongFormat, match="format 1"):
            reads(lake)
