"""Read runs and tables from a lake, also if it is damaged or absent."""

from pathlib import Path

import pytest

from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake.files import verified
from prunelake.lake.files.damage import find_damage
from prunelake.lake.sql import views
from tests.support.lakes.lake_files import (
    analysed_run_ids,
    data_file_of,
    flip_byte,
    manifest_of,
    rewrite_manifest,
    set_format_version,
)
from tests.support.runs.lake_rows import identity_of, small_analysis, small_run

RUN_ID = identity_of("run")[1]


def test_tables_have_the_rows_of_all_or_chosen_runs(tmp_path: Path) -> None:
    for name in ("first", "second"):
        commit.write_run(tmp_path, *small_run(name))
    first = identity_of("first")[1]
    assert read.read_table(tmp_path, "predictions").height == 4
    assert read.read_table(tmp_path, "predictions", [first])["run_id"].unique().to_list() == [first]
    with pytest.raises(LakeError, match="no complete run 'absent'"):
        read.read_table(tmp_path, "predictions", ["absent"])
    with pytest.raises(LakeError, match=r"no table 'nope'; the lake has runs, layers"):
        read.read_table(tmp_path, "nope")


def test_a_missing_lake_has_no_runs_and_cannot_be_read(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert read.run_ids(absent) == []
    assert not read.has_run(absent, RUN_ID)
    with pytest.raises(LakeError, match="no lake at"):
        read.read_table(absent, "runs")


def test_a_run_without_its_manifest_is_invisible(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    manifest_of(tmp_path, RUN_ID).unlink()
    assert read.read_table(tmp_path, "predictions").is_empty()


def test_another_format_version_is_named_with_the_remedy(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    set_format_version(manifest_of(tmp_path, RUN_ID), 99)
    with pytest.raises(WrongFormat, match=r"has format 99, .* reads format 3; use the version"):
        read.read_table(tmp_path, "predictions")


def test_the_files_of_a_development_version_are_refused(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    old = tmp_path / "runs" / f"{RUN_ID}.parquet"
    data_file_of(tmp_path, "runs", RUN_ID).rename(old)
    expected = rf"{old} has the layout of an earlier .*; use another lake folder and sweep again"
    for reads in (read.run_ids, views.connect, commit.check_writable):
        with pytest.raises(WrongFormat, match=expected):
            reads(tmp_path)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of the runs `run` and `other`, with their analyses."""
    for name in ("run", "other"):
        commit.write_run(tmp_path, *small_run(name))
        commit.write_analysis(tmp_path, *small_analysis(identity_of(name)[1]))
    return tmp_path


OTHER_ID = identity_of("other")[1]


@pytest.mark.parametrize("name", ["runs", "predictions"])
@pytest.mark.parametrize("content", [b"not parquet at all", b"", None])
def test_a_damaged_file_hides_its_run_and_nothing_else(
    lake: Path, name: str, content: bytes | None
) -> None:
    path = data_file_of(lake, name, RUN_ID)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    for table in ("runs", "layers", "predictions", "metrics"):
        assert set(read.read_table(lake, table)["run_id"]) == {OTHER_ID}
    listed = set(read.read_run_columns(lake, ["run_id"])["run_id"])
    assert listed == ({OTHER_ID} if path.parent.name == "runs" else {OTHER_ID, RUN_ID})
    (damage,) = read.read_content(lake).damaged
    assert (damage.file, damage.owners) == (path, frozenset({RUN_ID}))
    # Asking for this run raises an error that names the remedy.
    for reads in (
        lambda: read.read_table(lake, "layers", [RUN_ID]),
        lambda: read.has_run(lake, RUN_ID),
        lambda: read.check_files(lake, [RUN_ID]),
    ):
        with pytest.raises(CorruptFile, match=r"doctor --quarantine` and sweep") as raised:
            reads()
        assert str(path) in str(raised.value)
    read.check_files(lake, [OTHER_ID])


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"null", b"\xff", b'{"sha256": 1}'])
def test_a_damaged_manifest_hides_its_run(lake: Path, content: bytes) -> None:
    path = manifest_of(lake, RUN_ID)
    path.write_bytes(content)
    assert read.run_ids(lake) == [OTHER_ID]
    assert set(read.read_table(lake, "metrics")["run_id"]) == {OTHER_ID}
    with pytest.raises(CorruptFile, match=r"--quarantine` and sweep again") as raised:
        read.has_run(lake, RUN_ID)
    assert str(path) in str(raised.value)
    assert {damage.file for damage in find_damage(lake)} == {path}
    with pytest.raises(CorruptFile, match=r"--quarantine` and sweep again"):
        commit.write_run(lake, *small_run())


def test_a_changed_manifest_with_its_old_hash_is_damaged(lake: Path) -> None:
    path = manifest_of(lake, RUN_ID)
    before = path.read_bytes()
    rewrite_manifest(path, owners={})
    after = path.read_bytes()
    digest = before[: before.index(b"\n", 3)]
    path.write_bytes(digest + after[after.index(b"\n", 3) :])
    (damage,) = read.read_content(lake).damaged
    assert (damage.file, damage.owners) == (path, frozenset({RUN_ID}))
    assert "SHA-256 differs" in damage.problem


def test_each_file_is_compared_with_its_hash_once(
    lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared() -> list[str]:
        seen = []
        with monkeypatch.context() as patch:
            known = verified.content_problem

            def look(path: Path, sha256: str) -> str | None:
                seen.append(path.parent.name)
                return known(path, sha256)

            patch.setattr(verified, "content_problem", look)
            read.read_content(lake)
        return sorted(seen)

    assert len(compared()) > 10
    assert compared() == []
    path = data_file_of(lake, "layers", RUN_ID)
    flip_byte(path)
    assert compared() == ["layers"]
    assert compared() == ["layers"]  # damage is not remembered
    flip_byte(path)
    assert compared() == ["layers"]
    assert compared() == []
    (lake / verified.VERIFIED_FILE).write_bytes(b"no JSON")
    assert len(compared()) > 10


def test_a_read_only_lake_can_be_read(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (lake / verified.VERIFIED_FILE).unlink()
    monkeypatch.setattr(verified, "put", refuse)
    assert len(read.run_ids(lake)) == 2
    assert read.read_table(lake, "layers").height == 4
    assert not (lake / verified.VERIFIED_FILE).exists()


def test_a_lake_may_be_named_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("la*ke")
    commit.write_run(folder, *small_run())
    commit.write_analysis(folder, *small_analysis(RUN_ID))
    assert read.read_table(folder, "predictions").height == 2
    assert analysed_run_ids(folder) == {RUN_ID}


def test_chosen_runs_are_read_without_opening_others(lake: Path) -> None:
    for path in lake.glob(f"*/{OTHER_ID}*"):
        path.write_bytes(b"damaged")
    for name in ("predictions", "metrics", "analyses"):
        actual = read.read_table(lake, name, [RUN_ID])
        assert actual["run_id"].unique().to_list() == [RUN_ID]
