"""Read runs and tables from a lake, also if it is damaged or absent."""

from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake.files.damage import find_damage
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION
from tests.support.lake_files import set_format_version
from tests.support.lake_rows import identity_of, small_analysis, small_run

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


def test_a_run_without_its_runs_file_is_invisible(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    (tmp_path / "runs" / f"{RUN_ID}.parquet").unlink()
    assert read.read_table(tmp_path, "predictions").is_empty()


def test_another_format_version_is_named_with_the_remedy(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    path = tmp_path / "runs" / f"{RUN_ID}.parquet"
    set_format_version(path, 99)
    with pytest.raises(WrongFormat, match=r"has format 99, .* reads format 3; use the version"):
        read.read_table(tmp_path, "predictions")
    pl.read_parquet(path).write_parquet(path)
    with pytest.raises(CorruptFile, match="names no format version"):
        read.check_format(tmp_path)


@pytest.mark.parametrize("name", ["runs", "predictions"])
def test_a_file_that_does_not_open_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    commit.write_run(tmp_path, *small_run())
    path = tmp_path / name / f"{RUN_ID}.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(CorruptFile, match="prunelake doctor") as raised:
        read.read_table(tmp_path, name)
    assert str(path) in str(raised.value)
    assert f"delete {tmp_path / 'runs' / path.name} or restore" in str(raised.value)


METADATA = {"prunelake.format_version": str(FORMAT_VERSION)}


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"x": [1]}), "another schema: has .'x Int64'"),
        (
            RUN_TABLES["runs"].frame([]),
            "is not the runs file of a run: it has 0 rows and lists no files",
        ),
    ],
)
@pytest.mark.parametrize("name", [RUN_ID, "segment-0"])
def test_an_invalid_runs_file_is_named(
    tmp_path: Path, frame: pl.DataFrame, message: str, name: str
) -> None:
    for given in ("run", "other"):
        commit.write_run(tmp_path, *small_run(given))
    path = tmp_path / "runs" / f"{name}.parquet"
    frame.write_parquet(path, metadata=METADATA)
    owner = "segment" if name.startswith("segment") else "run"
    with pytest.raises(CorruptFile, match=message.replace("of a run", f"of a {owner}")) as raised:
        read.read_table(tmp_path, "layers")
    assert str(path) in str(raised.value)
    assert path in {finding.file for finding in find_damage(tmp_path)}


def test_a_lake_may_be_named_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("la*ke")
    commit.write_run(folder, *small_run())
    commit.write_analysis(folder, *small_analysis(RUN_ID))
    assert read.read_table(folder, "predictions").height == 2
    assert read.analysed_run_ids(folder) == {RUN_ID}


def test_chosen_runs_are_read_without_opening_others(tmp_path: Path) -> None:
    for name in ("run", "other"):
        commit.write_run(tmp_path, *small_run(name))
        commit.write_analysis(tmp_path, *small_analysis(identity_of(name)[1]))
    for path in tmp_path.glob(f"*/{identity_of('other')[1]}.parquet"):
        path.write_bytes(b"damaged")
    for name in ("predictions", "metrics", "analyses"):
        actual = read.read_table(tmp_path, name, [RUN_ID])
        assert actual["run_id"].unique().to_list() == [RUN_ID]
