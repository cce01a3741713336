import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from prunelake.errors import CorruptFile, LakeError, WrongFormat
from prunelake.lake import commit, read
from prunelake.lake.damage import find_damage
from prunelake.lake.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import PREDICTIONS, RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION
from tests.support.lake_files import set_format_version
from tests.support.lake_rows import (
    bound,
    frames,
    identity_of,
    prediction,
    run_row,
    small_analysis,
    small_run,
)

RUN_ID = identity_of("run")[1]
NEEDED = [name for name, table in RUN_TABLES.items() if not table.is_optional]


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tmp"))


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_written_run_reads_back_equal(tmp_path: Path) -> None:
    run, written = small_run()
    assert commit.write_run(tmp_path, run, written)
    assert read.has_run(tmp_path, RUN_ID)
    assert read.run_ids(tmp_path) == [RUN_ID]
    for name, frame in written.items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    row = read.read_table(tmp_path, "runs").row(0, named=True)
    assert {**run, "files": row["files"]} == row


def test_runs_lists_rows_and_hash_of_every_other_file(tmp_path: Path) -> None:
    run, written = small_run()
    commit.write_run(tmp_path, run, written)
    listed = read.read_table(tmp_path, "runs")["files"].to_list()[0]
    assert listed == [
        {
            "table": name,
            "rows": frame.height,
            "sha256": sha256_of(tmp_path / name / f"{RUN_ID}.parquet"),
        }
        for name, frame in written.items()
        if not RUN_TABLES[name].is_optional
    ]


def test_every_file_names_its_table_and_format(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    for name in NEEDED:
        metadata = pl.read_parquet_metadata(tmp_path / name / f"{RUN_ID}.parquet")
        assert metadata["prunelake.table"] == name
        assert metadata["prunelake.format_version"] == str(FORMAT_VERSION)


def test_an_empty_table_is_written_too(tmp_path: Path) -> None:
    commit.write_run(tmp_path, run_row(), frames())
    assert (tmp_path / "attributions" / f"{RUN_ID}.parquet").is_file()
    assert read.read_table(tmp_path, "attributions").is_empty()
    assert list(find_damage(tmp_path)) == []


def test_an_optional_table_is_a_file_only_where_it_has_rows(tmp_path: Path) -> None:
    run, written = small_run()
    given = written | {"bounds": RUN_TABLES["bounds"].frame([bound(RUN_ID, 0, "test:0")])}
    del given["reported"]
    assert commit.write_run(tmp_path, run, given)
    assert commit.write_run(tmp_path, *small_run("without"))
    assert [p.stem for p in (tmp_path / "bounds").iterdir()] == [RUN_ID]
    assert not (tmp_path / "reported").exists()
    assert_frame_equal(read.read_table(tmp_path, "bounds"), given["bounds"])
    assert read.read_table(tmp_path, "reported").is_empty()
    assert [entry["table"] for entry in read.read_table(tmp_path, "runs")["files"][0]] == [
        name for name in given if name != "reported"
    ]
    assert list(find_damage(tmp_path)) == []
    (tmp_path / "bounds" / f"{RUN_ID}.parquet").unlink()
    with pytest.raises(CorruptFile, match="bounds"):
        read.read_table(tmp_path, "bounds")


def test_what_an_unfinished_writer_left_of_an_optional_table_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "bounds" / f"{RUN_ID}.parquet"
    left.parent.mkdir()
    RUN_TABLES["bounds"].frame([bound(RUN_ID, 0, "test:9")]).write_parquet(left)
    commit.write_run(tmp_path, *small_run())
    assert not left.exists()
    assert read.read_table(tmp_path, "bounds").is_empty()


def test_writing_a_run_again_touches_nothing(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.parquet")}
    assert not commit.write_run(tmp_path, run_row(), frames())
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before}


def test_tables_read_over_all_runs_or_chosen_ones(tmp_path: Path) -> None:
    for name in ("first", "second"):
        commit.write_run(tmp_path, *small_run(name))
    first = identity_of("first")[1]
    assert read.read_table(tmp_path, "predictions").height == 4
    assert read.read_table(tmp_path, "predictions", [first])["run_id"].unique().to_list() == [first]
    with pytest.raises(LakeError, match="no complete run 'absent'"):
        read.read_table(tmp_path, "predictions", ["absent"])
    with pytest.raises(LakeError, match=r"no table 'nope'; the lake has runs, layers"):
        read.read_table(tmp_path, "nope")


def test_no_lake_yet_has_no_runs_but_cannot_be_read(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert read.run_ids(absent) == []
    assert not read.has_run(absent, RUN_ID)
    with pytest.raises(LakeError, match="no lake at"):
        read.read_table(absent, "runs")


def test_a_run_without_its_runs_file_is_invisible(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    (tmp_path / "runs" / f"{RUN_ID}.parquet").unlink()
    assert read.read_table(tmp_path, "predictions").is_empty()


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
def test_frames_that_are_not_their_table_are_refused(
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
def test_a_run_row_that_is_none_is_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(LakeError, match=message):
        commit.write_run(tmp_path, run_row(**columns), frames())


@pytest.mark.parametrize("failing_call", range(len(NEEDED)))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_file_leaves_no_run_and_no_temporary_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing_call: int,
    error: BaseException,
) -> None:
    calls = 0
    replace = os.replace

    def failing_replace(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call + 1:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing_replace)
    expected = LakeError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        commit.write_run(tmp_path, *small_run())
    if isinstance(error, OSError):
        assert "No space left on device" in str(raised.value)
        assert "\n" not in str(raised.value)
    assert read.run_ids(tmp_path) == []
    assert temporary_files(tmp_path) == []
    run, written = small_run()
    assert commit.write_run(tmp_path, run, written)
    assert_frame_equal(read.read_table(tmp_path, "predictions"), written["predictions"])
    assert list(find_damage(tmp_path)) == []


WRITER = """
import os, signal, sys
from pathlib import Path
from prunelake.lake.commit import write_run
from tests.support.lake_rows import small_run

replace, calls = os.replace, 0

def dying_replace(source, target):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = dying_replace
write_run(Path(sys.argv[1]), *small_run())
"""


def writer(*arguments: str, code: str = WRITER) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("killed_at", [1, 3, len(NEEDED)])
def test_a_killed_writer_leaves_no_run_and_its_leftovers_are_replaced(
    tmp_path: Path, killed_at: int
) -> None:
    with writer(str(tmp_path), str(killed_at)) as process:
        assert process.wait() == -signal.SIGKILL
    assert read.run_ids(tmp_path) == []
    assert len(temporary_files(tmp_path)) == 1
    assert all(f.problem.startswith("leftover") for f in verify_lake(tmp_path))
    run, written = small_run()
    assert commit.write_run(tmp_path, run, written)
    for name, frame in written.items():
        assert_frame_equal(read.read_table(tmp_path, name), frame)
    commit.write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert [f.problem for f in verify_lake(tmp_path)] == ["leftover: a temporary file"]


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
from pathlib import Path
from prunelake.errors import LakeError
from prunelake.lake.commit import write_run
from tests.support.lake_rows import small_run
try:
    write_run(Path(sys.argv[1]), *small_run())
except LakeError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with writer(str(tmp_path), code=FULL_DISK) as process:
        _, message = process.communicate()
    assert process.returncode == 1
    assert message.decode().count("\n") == 1
    assert f"run {RUN_ID} could not be written" in message.decode()
    assert read.run_ids(tmp_path) == []
    assert temporary_files(tmp_path) == []


def test_a_lake_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match="could not be written to"):
        commit.write_run(tmp_path / "file", *small_run())


def test_whether_a_lake_can_be_written_is_known_before(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "lake"
    commit.check_writable(folder)
    assert [*folder.iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match=r"file cannot be written \(FileExistsError"):
        commit.check_writable(tmp_path / "file")


def test_of_many_writers_of_one_run_exactly_one_writes(tmp_path: Path) -> None:
    run, _ = small_run()
    versions = [
        frames(predictions=[prediction(RUN_ID, 0, f"test:{i}", [-1.0, -2.0])]) for i in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        wrote = list(pool.map(lambda v: commit.write_run(tmp_path, run, v), versions))
    assert sum(wrote) == 1
    winner = versions[wrote.index(True)]["predictions"]
    assert_frame_equal(read.read_table(tmp_path, "predictions"), winner)
    assert list(find_damage(tmp_path)) == []


def test_another_format_version_says_which_and_what_to_do(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    path = tmp_path / "runs" / f"{RUN_ID}.parquet"
    set_format_version(path, 99)
    with pytest.raises(WrongFormat, match=r"has format 99, .* reads format 2; use the version"):
        read.read_table(tmp_path, "predictions")
    pl.read_parquet(path).write_parquet(path)
    with pytest.raises(CorruptFile, match="names no format version"):
        read.check_format(tmp_path)


def test_no_run_joins_those_of_another_format(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    path = tmp_path / "runs" / f"{RUN_ID}.parquet"
    set_format_version(path, 1)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    with pytest.raises(WrongFormat, match="has format 1"):
        commit.check_writable(tmp_path)
    with pytest.raises(WrongFormat, match="has format 1"):
        commit.write_run(tmp_path, *small_run("another"))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")} == before


@pytest.mark.parametrize("name", ["runs", "predictions"])
def test_a_file_that_is_no_parquet_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    commit.write_run(tmp_path, *small_run())
    path = tmp_path / name / f"{RUN_ID}.parquet"
    path.write_bytes(b"not parquet at all")
    with pytest.raises(CorruptFile, match="prunelake doctor") as raised:
        read.read_table(tmp_path, name)
    assert str(path) in str(raised.value)
    assert f"delete {tmp_path / 'runs' / path.name} or restore" in str(raised.value)


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
    # Swept again, it is another run to the analysis.
    commit.write_run(tmp_path, *small_run())
    assert read.analysed_run_ids(tmp_path) == set()


def test_an_analysis_that_is_none_is_refused(tmp_path: Path) -> None:
    commit.write_run(tmp_path, *small_run())
    row, written = small_analysis(RUN_ID)
    with pytest.raises(LakeError, match=r"a row of analyses needs exactly .*; differing: mood"):
        commit.write_analysis(tmp_path, row | {"mood": "good"}, written)
    del written["overlap_matrix"]
    with pytest.raises(LakeError, match="differing: overlap_matrix"):
        commit.write_analysis(tmp_path, row, written)
    assert not (tmp_path / "analyses").exists()


@pytest.mark.parametrize("failing_call", range(len(ANALYSIS_TABLES)))
@pytest.mark.parametrize("had_one", [True, False])
def test_a_failure_leaves_no_part_of_an_analysis_to_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int, had_one: bool
) -> None:
    commit.write_run(tmp_path, *small_run())
    if had_one:
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
def test_a_runs_file_that_is_none_is_named(
    tmp_path: Path, frame: pl.DataFrame, message: str, name: str
) -> None:
    for given in ("run", "other"):
        commit.write_run(tmp_path, *small_run(given))
    path = tmp_path / "runs" / f"{name}.parquet"
    frame.write_parquet(path, metadata=METADATA)
    of = "segment" if name.startswith("segment") else "run"
    with pytest.raises(CorruptFile, match=message.replace("of a run", f"of a {of}")) as raised:
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
        found = read.read_table(tmp_path, name, [RUN_ID])
        assert found["run_id"].unique().to_list() == [RUN_ID]
