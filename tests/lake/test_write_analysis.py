"""Write the analysis of a run: completely or not at all, and in place of an older analysis."""

import hashlib
import os
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import CorruptFile, LakeError
from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from tests.support.lake_rows import identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_analysis_reads_back_equal_and_is_known(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    commit.write_run(tmp_path, *small_run("second"))
    assert read.unanalysed_run_ids(tmp_path) == read.run_ids(tmp_path)
    row, written = small_analysis(RUN_ID)
    commit.write_analysis(tmp_path, row, written)
    for name, frame in written.items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    stored = read.read_table(tmp_path, "analyses").row(0, named=True)
    assert {**row, "files": stored["files"]} == stored
    assert [(f["table"], f["rows"], f["sha256"]) for f in stored["files"]] == [
        (name, written[name].height, sha256_of(tmp_path / name / f"{RUN_ID}.parquet"))
        for name in ANALYSIS_TABLES
        if name != "analyses"
    ]
    assert read.analysed_run_ids(tmp_path) == {RUN_ID}
    assert read.unanalysed_run_ids(tmp_path) == [identity_of("second")[1]]


def test_an_analysis_of_another_version_is_ignored_and_replaced(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    older = small_analysis(RUN_ID, analysis_version=ANALYSIS_VERSION - 1)
    commit.write_analysis(tmp_path, *older)
    assert read.unanalysed_run_ids(tmp_path) == [RUN_ID]
    for name in ANALYSIS_TABLES:
        assert read.read_table(tmp_path, name).is_empty()
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert read.unanalysed_run_ids(tmp_path) == []
    assert read.read_table(tmp_path, "analyses")["replicates"].to_list() == [20]


@pytest.mark.parametrize("table", list(ANALYSIS_TABLES))
def test_a_damaged_analysis_is_replaced(tmp_path: Path, table: str) -> None:
    commit.write_run(tmp_path, *small_run())
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    path = tmp_path / table / f"{RUN_ID}.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptFile, match=f"analyses/{RUN_ID}.parquet and run `prunelake analyse`"):
        read.read_table(tmp_path, table)
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert verify_lake(tmp_path) == []


def test_only_complete_runs_are_analysed(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        commit.write_analysis(tmp_path / "absent", *small_analysis(RUN_ID))
    commit.write_run(tmp_path, *small_run("other"))
    with pytest.raises(LakeError, match=f"no complete run '{RUN_ID}' .* sweep it first"):
        commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    commit.write_run(tmp_path, *small_run())
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    (tmp_path / "runs" / f"{RUN_ID}.parquet").unlink()
    assert read.analysed_run_ids(tmp_path) == set()
    assert read.read_table(tmp_path, "metrics").is_empty()
    # After another sweep the analysis belongs to a lost run.
    commit.write_run(tmp_path, *small_run())
    assert read.analysed_run_ids(tmp_path) == set()


def test_an_invalid_analysis_is_refused(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    row, written = small_analysis(RUN_ID)
    with pytest.raises(LakeError, match=r"a row of analyses needs exactly .*; differing: mood"):
        commit.write_analysis(tmp_path, row | {"mood": "good"}, written)
    del written["overlap_matrix"]
    with pytest.raises(LakeError, match="differing: overlap_matrix"):
        commit.write_analysis(tmp_path, row, written)
    assert not (tmp_path / "analyses").exists()


@pytest.mark.parametrize("failing_call", range(len(ANALYSIS_TABLES)))
@pytest.mark.parametrize("had_analysis", [True, False])
def test_a_failure_leaves_no_visible_part_of_an_analysis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int, had_analysis: bool
) -> None:
    commit.write_run(tmp_path, *small_run())
    if had_analysis:
        commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    calls = 0
    replace = os.replace

    def failing_replace(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call + 1:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing_replace)
        with pytest.raises(LakeError, match=r"the analysis of run .* `prunelake analyse`"):
            commit.write_analysis(tmp_path, *small_analysis(RUN_ID, replicates=20))
    assert read.unanalysed_run_ids(tmp_path) == [RUN_ID]
    assert all(read.read_table(tmp_path, name).is_empty() for name in ANALYSIS_TABLES)
    assert list(find_damage(tmp_path)) == []
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert verify_lake(tmp_path) == []
