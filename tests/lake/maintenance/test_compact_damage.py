"""Damage in segments is found, and no damaged file is merged."""

import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake.files import parquet
from prunelake.lake.files.manifests import FILES_KEY
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.sql import views
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.tables import ALL_TABLES
from tests.support.compacted_lakes import COMPACTED_TABLES, DROPS, add_run, table_files
from tests.support.example_runs import explained_run
from tests.support.lake_files import set_format_version


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of runs with and without explanations, bounds and analyses of this version."""
    folder = tmp_path_factory.mktemp("explained")
    explained_run(folder, "explained", DROPS)
    explained_run(folder, "another", DROPS, model="other", task="another")
    add_run(folder, "plain")
    add_run(folder, "bounded")
    add_run(folder, "later", analysed=False)
    add_run(folder, "older", analysis_version=ANALYSIS_VERSION - 1)
    return folder


@pytest.fixture
def lake(explained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(explained, tmp_path / "o'lake")


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of one segment; tests copy it."""
    folder = tmp_path_factory.mktemp("compacted")
    for name in ("bounded", "bounded later"):
        add_run(folder, name)
    compact(folder)
    return folder


@pytest.mark.parametrize("table", [name for name in COMPACTED_TABLES if name != "reported"])
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
    manifest = tmp_path / ("analyses" if table in ANALYSIS_TABLES else "runs") / path.name
    assert f"delete {manifest} " in findings[0].remedy


def test_the_doctor_finds_runs_and_rows_that_a_segment_lost(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_run(tmp_path, name)
    compact(tmp_path)
    (path,) = (tmp_path / "predictions").iterdir()
    pl.read_parquet(path).head(3).write_parquet(path)
    lost = read.run_ids(tmp_path)[1]
    assert f"1 rows of run {lost} instead of the 2 written" in {
        f.problem for f in verify_lake(tmp_path)
    }
    path.unlink()
    assert [(f.file, f.problem) for f in verify_lake(tmp_path)] == [(path, "missing")]


@pytest.mark.parametrize("table", ["layers", "metrics"])
@pytest.mark.parametrize("compacted", [True, False])
def test_a_damaged_file_is_not_merged(tmp_path: Path, table: str, compacted: bool) -> None:
    add_run(tmp_path, "run")
    if compacted:
        compact(tmp_path)
    (path,) = (tmp_path / table).iterdir()
    content = bytearray(path.read_bytes())
    content[10] ^= 0x01
    path.write_bytes(content)
    add_run(tmp_path, "another")
    with pytest.raises(CorruptFile, match=f"{path}.*delete"):
        compact(tmp_path)
    assert path.read_bytes() == content
    assert [f.file for f in verify_lake(tmp_path) if "SHA-256" in f.problem] == [path]


def test_a_failed_write_is_an_error_of_one_line_and_changes_nothing(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in table_files(lake)}

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(LakeError, match=r"No space left .* it reads as before: make room"):
            compact(lake)
    assert {path: path.read_bytes() for path in table_files(lake)} == before


def test_no_lake_and_another_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        compact(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    add_run(tmp_path, "run")
    compact(tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    set_format_version(path, 1)
    for reads in (compact, commit.check_writable, views.connect):
        with pytest.raises(WrongFormat, match="format 1"):
            reads(tmp_path)
