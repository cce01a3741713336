"""Write the analysis of a run: completely or not at all, and in place of a damaged analysis."""

import os
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.entries import retire_owner
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.lakes.lake_files import (
    analysed_run_ids,
    data_file_of,
    flip_byte,
    manifest_of,
    stored_manifest,
)
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]


def test_an_analysis_reads_back_equal_and_is_known(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    commit.write_run(tmp_path, *small_run("second"))
    assert read.unanalysed_run_ids(tmp_path) == read.run_ids(tmp_path)
    row, written = small_analysis(RUN_ID)
    assert commit.write_analysis(tmp_path, row, written)
    for name, frame in written.items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    assert read.read_table(tmp_path, "analyses").row(0, named=True) == row
    run_commit = read.run_commit(tmp_path, RUN_ID)
    manifest = manifest_of(tmp_path, RUN_ID, "analyses")
    assert manifest.name == f"{RUN_ID}-{run_commit}-v{ANALYSIS_VERSION}.1.json"
    listed = stored_manifest(tmp_path, RUN_ID, "analyses").files
    assert {name: file.rows for name, file in listed.items()} == {
        name: written[name].height if name in written else 1 for name in ANALYSIS_TABLES
    }
    assert analysed_run_ids(tmp_path) == {RUN_ID}
    assert read.unanalysed_run_ids(tmp_path) == [identity_of("second")[1]]


def test_an_analysis_of_another_version_is_ignored(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    older = small_analysis(RUN_ID, analysis_version=ANALYSIS_VERSION - 1)
    assert commit.write_analysis(tmp_path, *older)
    assert read.unanalysed_run_ids(tmp_path) == [RUN_ID]
    for name in ANALYSIS_TABLES:
        assert read.read_table(tmp_path, name).is_empty()
    assert commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert read.unanalysed_run_ids(tmp_path) == []
    assert read.read_table(tmp_path, "analyses")["replicates"].to_list() == [20]


def test_a_second_analysis_of_the_same_version_changes_nothing(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    assert commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    assert not commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


@pytest.mark.parametrize("table", list(ANALYSIS_TABLES))
def test_a_damaged_analysis_is_replaced(tmp_path: Path, table: str) -> None:
    commit.write_run(tmp_path, *small_run())
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    path = data_file_of(tmp_path, table, RUN_ID)
    path.write_bytes(path.read_bytes()[:-9])
    assert read.read_table(tmp_path, table).is_empty()
    assert read.read_table(tmp_path, "runs").height == 1
    (damage,) = read.read_content(tmp_path).damaged
    assert (damage.file, damage.owners) == (path, frozenset({RUN_ID}))
    assert read.unanalysed_run_ids(tmp_path) == [RUN_ID]
    assert commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert read.read_table(tmp_path, "analyses")["replicates"].to_list() == [20]
    assert list(find_damage(tmp_path)) == []


def test_an_analysis_with_a_damaged_manifest_is_replaced(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    flip_byte(manifest_of(tmp_path, RUN_ID, "analyses"), 100)
    assert read.unanalysed_run_ids(tmp_path) == [RUN_ID]
    assert commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert read.unanalysed_run_ids(tmp_path) == []
    assert list(find_damage(tmp_path)) == []


def test_only_complete_runs_are_analysed(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        commit.write_analysis(tmp_path / "absent", *small_analysis(RUN_ID))
    commit.write_run(tmp_path, *small_run("other"))
    with pytest.raises(LakeError, match=f"no complete run '{RUN_ID}' .* sweep it first"):
        commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    commit.write_run(tmp_path, *small_run())
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    retire_owner(tmp_path, RUN_TABLES, stored_manifest(tmp_path, RUN_ID), RUN_ID)
    assert analysed_run_ids(tmp_path) == set()
    assert read.read_table(tmp_path, "metrics").is_empty()


def test_an_analysis_belongs_to_one_measurement_of_a_run(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    retire_owner(tmp_path, RUN_TABLES, stored_manifest(tmp_path, RUN_ID), RUN_ID)
    run, written = small_run()
    commit.write_run(tmp_path, run | {"duration_s": 9.0}, written)
    assert read.unanalysed_run_ids(tmp_path) == [RUN_ID]
    assert read.read_table(tmp_path, "metrics").is_empty()
    assert commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert read.read_table(tmp_path, "analyses")["replicates"].to_list() == [20]


def test_an_invalid_analysis_is_refused(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    row, written = small_analysis(RUN_ID)
    with pytest.raises(LakeError, match=r"a row of analyses needs exactly .*; differing: mood"):
        commit.write_analysis(tmp_path, row | {"mood": "good"}, written)
    del written["overlap_matrix"]
    with pytest.raises(LakeError, match="differing: overlap_matrix"):
        commit.write_analysis(tmp_path, row, written)
    assert not (tmp_path / "analyses").exists()


@pytest.mark.parametrize("failing_call", range(len(ANALYSIS_TABLES) + 1))
@pytest.mark.parametrize("was_damaged", [True, False])
def test_a_failure_leaves_no_visible_part_of_an_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int, was_damaged: bool
) -> None:
    commit.write_run(tmp_path, *small_run())
    if was_damaged:
        commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
        flip_byte(data_file_of(tmp_path, "metrics", RUN_ID))
    calls = 0
    link = os.link

    def failing_link(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call + 1:
            raise OSError(28, "No space left on device")
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", failing_link)
        with pytest.raises(LakeError, match=r"the analysis of run .* `prunelake analyse`"):
            commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert all(read.read_table(tmp_path, name).is_empty() for name in ANALYSIS_TABLES)
    assert commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert read.unanalysed_run_ids(tmp_path) == []
    assert read.read_table(tmp_path, "analyses")["replicates"].to_list() == [10]
    assert list(find_damage(tmp_path)) == []
