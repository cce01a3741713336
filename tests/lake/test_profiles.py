"""Profiles in a folder and in a store: written completely or not at all, replaced, and checked."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from prunelake.analysis.analyse import analyse
from prunelake.errors import LakeError
from prunelake.lake import commit, read
from prunelake.lake.maintenance.compact import compact
from prunelake.lake.maintenance.garbage import collect_garbage
from prunelake.lake.maintenance.repair import quarantine, repair
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.lake.storage.location import Location
from prunelake.schema.profile_tables import PROFILE_SUBJECT, PROFILE_TABLES
from tests.support.lakes.interruptions import Interrupted, before_every_file_change, stop_at
from tests.support.lakes.lake_files import data_file_of, manifest_of, stored_manifest
from tests.support.object_stores.object_store import new_lake
from tests.support.runs.lake_rows import small_analysis, small_run
from tests.support.runs.profile_rows import DAY, profile_ids, profiled, small_profile

NO_GRACE = timedelta(0)


@pytest.fixture(params=["folder", "store"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "folder":
        return tmp_path / "lake"
    request.getfixturevalue("object_store")
    return new_lake()


def stored_ids(lake: Location) -> list[str]:
    """The profile of every data file of a profile, sorted."""
    return sorted(
        path.name.split(".")[0]
        for table in PROFILE_TABLES
        for path in (lake / table).glob("*.parquet")
    )


def test_a_written_profile_reads_back_equal(lake: Location) -> None:
    row, frames = small_profile()
    commit.write_profile(lake, row, frames)
    assert profile_ids(lake) == [row["profile_id"]]
    assert_frame_equal(read.read_table(lake, "efficiency"), frames["efficiency"])
    (actual,) = read.read_table(lake, "profiles").to_dicts()
    assert actual == row
    listed = stored_manifest(lake, row["profile_id"], "profiles").files
    assert {name: file.rows for name, file in listed.items()} == {"efficiency": 2, "profiles": 1}
    assert verify_lake(lake) == []


def test_a_profile_replaces_an_older_profile_of_the_same_subject(lake: Location) -> None:
    first, again = profiled(lake, "first"), profiled(lake, "again", {0: [1.0]})
    assert first != again
    assert profile_ids(lake) == [again]
    collect_garbage(lake, NO_GRACE)
    assert stored_ids(lake) == [again, again]
    assert read.read_table(lake, "efficiency")["decode_seconds"].to_list() == [[1.0]]


OTHER: dict[str, Any] = {
    "revision": "1" * 40,
    "strategy": "random:0",
    "removal_order": [2, 1, 3, 0],
    "dtype": "bfloat16",
    "device_name": "a CPU, 2 threads",
}


def test_profiles_of_other_subjects_stay(tmp_path: Path) -> None:
    assert set(OTHER) == set(PROFILE_SUBJECT)
    ids = {profiled(tmp_path)} | {
        profiled(tmp_path, name, **{name: value}) for name, value in OTHER.items()
    }
    assert set(profile_ids(tmp_path)) == ids
    assert len(ids) == 6


def test_a_killed_writer_leaves_the_old_or_the_new_profile_or_both(tmp_path: Path) -> None:
    for last in range(1, 100):
        lake = tmp_path / str(last)
        first = profiled(lake, "first")
        with before_every_file_change(stop_at(last)):
            try:
                again = profiled(lake, "again")
                break
            except Interrupted:
                pass
        actual = set(read.read_table(lake, "efficiency")["profile_id"])
        assert actual
        assert actual <= {first, small_profile("again")[0]["profile_id"]}
        again = profiled(lake, "again")
        assert profile_ids(lake) == [again]
    assert last > 4


def test_runs_and_their_compaction_leave_profiles_alone(tmp_path: Path) -> None:
    profile_id = profiled(tmp_path)
    for name in ("one", "two"):
        run, frames = small_run(name)
        commit.write_run(tmp_path, run, frames)
        commit.write_analysis(tmp_path, *small_analysis(str(run["run_id"])))
    before = {path: path.read_bytes() for path in tmp_path.glob(f"*/{profile_id}*")}
    assert len(before) == 3
    compact(tmp_path)
    collect_garbage(tmp_path, NO_GRACE)
    assert repair(tmp_path, analyse) == []
    assert {path: path.read_bytes() for path in before} == before
    assert verify_lake(tmp_path) == []
    assert read.read_table(tmp_path, "profiles").height == 1
    assert read.read_table(tmp_path, "runs").height == 2


@pytest.mark.parametrize("table", PROFILE_TABLES)
def test_a_flipped_byte_is_found_and_the_profile_moved_aside(lake: Location, table: str) -> None:
    bad, good = profiled(lake, "bad"), profiled(lake, "good", dtype="bfloat16")
    path = stored_manifest(lake, bad, table).file(table)
    assert path is not None
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    if isinstance(path, Path):
        path.write_bytes(content)
    else:
        path.put(bytes(content))
    finding, *more = verify_lake(lake)
    assert {each.file for each in (finding, *more)} == {path}
    assert "SHA-256 differs" in finding.problem
    retry = "run `prunelake profile` again"
    assert finding.remedy.endswith(f"run `prunelake doctor --quarantine` and {retry}")
    if isinstance(path, Path):
        assert read.read_table(lake, "efficiency")["profile_id"].unique().to_list() == [good]
    (line,) = quarantine(lake)
    assert line.startswith(f"moved profile {bad} to ")
    assert line.endswith("; `prunelake profile` measures it again")
    assert profile_ids(lake) == [good]
    assert stored_ids(lake) == [good, good]
    assert verify_lake(lake) == []


def test_leftovers_of_a_killed_writer_are_found_and_collected(tmp_path: Path) -> None:
    profile_id = profiled(tmp_path)
    manifest_of(tmp_path, profile_id, "profiles").unlink()
    assert {f.problem for f in verify_lake(tmp_path)} == {
        "leftover: belongs to no complete profile"
    }
    assert read.read_table(tmp_path, "efficiency").is_empty()
    assert repair(tmp_path, analyse) == []
    assert collect_garbage(tmp_path, NO_GRACE) == 2
    assert verify_lake(tmp_path) == []
    assert stored_ids(tmp_path) == []


def test_a_profile_without_its_data_file_is_hidden(tmp_path: Path) -> None:
    profile_id = profiled(tmp_path)
    path = data_file_of(tmp_path, "efficiency", profile_id)
    path.unlink()
    assert read.read_table(tmp_path, "profiles").is_empty()
    (finding,) = verify_lake(tmp_path)
    assert (finding.file, finding.problem) == (path, "missing")


def test_invalid_profiles_are_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    row, frames = small_profile("one")
    _, others = small_profile("other")
    for given, message in (
        (others, "table efficiency of profile .* rows of profile"),
        ({}, "a row of profiles needs a frame"),
        ({**frames, "metrics": frames["efficiency"]}, "a row of profiles needs a frame"),
    ):
        with pytest.raises(LakeError, match=message):
            commit.write_profile(tmp_path, row, given)
    with pytest.raises(LakeError, match="profile_id 'a/b' cannot be the file name of a profile"):
        commit.write_profile(tmp_path, row | {"profile_id": "a/b"}, frames)
    with pytest.raises(LakeError, match=r"profiles needs exactly .* differing: threads"):
        commit.write_profile(tmp_path, {k: v for k, v in row.items() if k != "threads"}, frames)
    assert not any(tmp_path.iterdir())


def test_the_later_of_two_profiles_stays(tmp_path: Path) -> None:
    profiled(tmp_path, "one")
    later = profiled(tmp_path, "two", created_at=DAY + timedelta(days=1))
    assert read.read_table(tmp_path, "profiles")["profile_id"].to_list() == [later]
