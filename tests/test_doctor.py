import hashlib
from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import LakeError
from prunelake.lake import Finding, doctor, write_run
from prunelake.tables import TABLES
from tests.lake_rows import frames, identity_of, run_row, small_run

RUN_ID = identity_of("run")[1]
METADATA = {"prunelake.format_version": "1"}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with a good run and the run `run`, which a test may damage."""
    for name in ("good", "run"):
        write_run(tmp_path, *small_run(name))
    assert doctor(tmp_path) == []
    return tmp_path


def only_finding(lake: Path) -> Finding:
    before = {p: p.read_bytes() for p in lake.rglob("*") if p.is_file()}
    (finding,) = doctor(lake)
    assert before == {p: p.read_bytes() for p in lake.rglob("*") if p.is_file()}
    assert finding.remedy
    return finding


def file_of(lake: Path, table: str) -> Path:
    return lake / table / f"{RUN_ID}.parquet"


@pytest.mark.parametrize("table", [name for name in TABLES if name != "runs"])
def test_a_flipped_byte_is_found_in_every_table(lake: Path, table: str) -> None:
    path = file_of(lake, table)
    content = bytearray(path.read_bytes())
    content[10] ^= 0x01
    path.write_bytes(content)
    findings = doctor(lake)
    assert {f.file for f in findings} == {path}
    assert "SHA-256 differs" in findings[0].problem
    assert f"delete {file_of(lake, 'runs')} or restore" in findings[0].remedy


@pytest.mark.parametrize("table", list(TABLES))
def test_a_truncated_file_is_found(lake: Path, table: str) -> None:
    path = file_of(lake, table)
    path.write_bytes(path.read_bytes()[:-20])
    findings = doctor(lake)
    assert {f.file for f in findings} == {path}
    assert "does not open as Parquet" in findings[-1].problem


def test_a_missing_file_is_found(lake: Path) -> None:
    file_of(lake, "deletions").unlink()
    assert only_finding(lake).problem == "missing"


def rewrite_recorded(lake: Path, table: str, frame: pl.DataFrame) -> None:
    """Replace a table's file and record its hash, so that only its content is at fault."""
    path = file_of(lake, table)
    frame.write_parquet(path, metadata=METADATA)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    runs = pl.read_parquet(file_of(lake, "runs"))
    files = [
        entry | ({"sha256": digest} if entry["table"] == table else {})
        for entry in runs["files"].to_list()[0]
    ]
    runs = runs.with_columns(pl.Series("files", [files], dtype=runs.schema["files"]))
    runs.write_parquet(file_of(lake, "runs"), metadata=METADATA)


def test_a_foreign_schema_is_found(lake: Path) -> None:
    rewrite_recorded(lake, "layers", pl.DataFrame({"x": [1]}))
    assert "another schema: has ['x Int64']" in only_finding(lake).problem


def test_another_row_count_is_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "layers"))
    rewrite_recorded(lake, "layers", frame.head(1))
    assert only_finding(lake).problem == "1 rows instead of the 2 written"


def test_rows_of_another_run_are_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "examples"))
    rewrite_recorded(lake, "examples", frame.with_columns(run_id=pl.lit("other")))
    assert only_finding(lake).problem == f"rows of run other instead of {RUN_ID}"


def test_a_repeated_key_is_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "layers"))
    rewrite_recorded(lake, "layers", frame.with_columns(layer=pl.lit(0, dtype=pl.Int32)))
    assert only_finding(lake).problem == "the key (run_id, layer) is not unique"


def test_a_run_id_that_is_not_the_hash_of_its_identity_is_found(tmp_path: Path) -> None:
    write_run(tmp_path, run_row("one") | {"run_id": "0123456789abcdef"}, frames())
    problem = only_finding(tmp_path).problem
    assert problem == f"its identity hashes to {identity_of('one')[1]}, not to 0123456789abcdef"


def test_an_identity_that_is_no_json_is_found(tmp_path: Path) -> None:
    write_run(tmp_path, run_row(identity="{"), frames())
    assert only_finding(tmp_path).problem == "its identity is not JSON"


def test_a_foreign_format_is_found(lake: Path) -> None:
    path = file_of(lake, "runs")
    pl.read_parquet(path).write_parquet(path, metadata={"prunelake.format_version": "7"})
    assert only_finding(lake).problem == "format 7, this version reads format 1"


def test_leftovers_are_found(lake: Path) -> None:
    orphan = lake / "layers" / "dead.parquet"
    orphan.write_bytes(b"")
    temporary = lake / "layers" / ".dead.123.tmp"
    temporary.write_bytes(b"")
    assert {f.file: f.problem for f in doctor(lake)} == {
        orphan: "leftover: belongs to no complete run",
        temporary: "leftover: a temporary file",
    }


def test_no_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        doctor(tmp_path / "absent")
