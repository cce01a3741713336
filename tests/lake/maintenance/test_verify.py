"""`prunelake doctor` finds every kind of damage and every leftover in a lake."""

import hashlib
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import LakeError, WrongFormat
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.files.findings import Finding
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.schema.table import FORMAT_VERSION
from tests.support.lake_files import rewrite_manifest, set_format_version
from tests.support.lake_rows import (
    bound,
    frames,
    identity_of,
    named_level,
    run_row,
    small_analysis,
    small_run,
)

RUN_ID = identity_of("run")[1]
METADATA = {"prunelake.format_version": str(FORMAT_VERSION)}
MANIFEST_TABLES = ("runs", "analyses")
FILES = [name for name in (*RUN_TABLES, *ANALYSIS_TABLES) if name != "reported"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with a good run and the run `run`; both are analysed."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("good", "run"):
        run, written = small_run(name)
        run_id = str(run["run_id"])
        written["bounds"] = RUN_TABLES["bounds"].frame([bound(run_id, 0, "test:0")])
        written["levels"] = RUN_TABLES["levels"].frame([named_level(run_id, 0, "base")])
        write_run(folder, run, written)
        write_analysis(folder, *small_analysis(run_id))
    assert verify_lake(folder) == []
    return folder


@pytest.fixture
def lake(whole: Path, tmp_path: Path) -> Path:
    """A copy of the lake, in which a test may damage the run `run`."""
    return Path(shutil.copytree(whole, tmp_path / "lake"))


def only_finding(lake: Path) -> Finding:
    before = {p: p.read_bytes() for p in lake.rglob("*") if p.is_file()}
    (finding,) = verify_lake(lake)
    assert before == {p: p.read_bytes() for p in lake.rglob("*") if p.is_file()}
    assert finding.remedy
    return finding


def file_of(lake: Path, table: str) -> Path:
    return lake / table / f"{RUN_ID}.parquet"


@pytest.mark.parametrize("table", [name for name in FILES if name not in MANIFEST_TABLES])
def test_a_flipped_byte_is_found_in_every_table(lake: Path, table: str) -> None:
    path = file_of(lake, table)
    content = bytearray(path.read_bytes())
    content[10] ^= 0x01
    path.write_bytes(content)
    findings = verify_lake(lake)
    assert {f.file for f in findings} == {path}
    assert "SHA-256 differs" in findings[0].problem
    if table in ANALYSIS_TABLES:
        remedy = f"delete {file_of(lake, 'analyses')} and run `prunelake analyse`"
    else:
        remedy = f"delete {file_of(lake, 'runs')} or restore the file, and sweep again"
    assert findings[0].remedy == remedy


@pytest.mark.parametrize("table", FILES)
def test_a_truncated_file_is_found(lake: Path, table: str) -> None:
    path = file_of(lake, table)
    path.write_bytes(path.read_bytes()[:-20])
    findings = verify_lake(lake)
    assert {f.file for f in findings} == {path}
    assert "does not open as Parquet" in findings[-1].problem


@pytest.mark.parametrize("table", [name for name in FILES if name not in MANIFEST_TABLES])
def test_a_missing_file_is_found(lake: Path, table: str) -> None:
    file_of(lake, table).unlink()
    assert only_finding(lake).problem == "missing"


def rewrite_with_checksum(lake: Path, table: str, frame: pl.DataFrame) -> None:
    """Replace a data file and its checksum in the manifest, so that only its content is wrong."""
    path = file_of(lake, table)
    frame.write_parquet(path, metadata=METADATA)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    runs = pl.read_parquet(file_of(lake, "runs"))
    files = [
        entry | ({"sha256": digest} if entry["table"] == table else {})
        for entry in runs["files"].to_list()[0]
    ]
    runs = runs.with_columns(pl.Series("files", [files], dtype=runs.schema["files"]))
    rewrite_manifest(file_of(lake, "runs"), runs)


def test_another_schema_is_found(lake: Path) -> None:
    rewrite_with_checksum(lake, "layers", pl.DataFrame({"x": [1]}))
    assert "another schema: has ['x Int64']" in only_finding(lake).problem


def test_another_row_count_is_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "layers"))
    rewrite_with_checksum(lake, "layers", frame.head(1))
    assert only_finding(lake).problem == f"1 rows of run {RUN_ID} instead of the 2 written"


def test_rows_of_another_run_are_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "examples"))
    rewrite_with_checksum(lake, "examples", frame.with_columns(run_id=pl.lit("other")))
    assert only_finding(lake).problem == f"rows of run other instead of {RUN_ID}"


def test_a_repeated_key_is_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "layers"))
    rewrite_with_checksum(lake, "layers", frame.with_columns(layer=pl.lit(0, dtype=pl.Int32)))
    assert only_finding(lake).problem == "the key (run_id, layer) is not unique"


def test_a_run_id_that_is_not_the_hash_of_its_identity_is_found(tmp_path: Path) -> None:
    write_run(tmp_path, run_row("one") | {"run_id": "0123456789abcdef"}, frames())
    write_analysis(tmp_path, *small_analysis("0123456789abcdef"))
    problem = only_finding(tmp_path).problem
    assert problem == f"its identity hashes to {identity_of('one')[1]}, not to 0123456789abcdef"


def test_an_identity_that_is_not_json_is_found(tmp_path: Path) -> None:
    write_run(tmp_path, run_row(identity="{"), frames())
    write_analysis(tmp_path, *small_analysis(RUN_ID))
    assert only_finding(tmp_path).problem == "its identity is not JSON"


def test_another_format_is_an_error(lake: Path) -> None:
    set_format_version(file_of(lake, "runs"), 7)
    with pytest.raises(WrongFormat, match=r"has format 7, .* reads format 3; use the version"):
        verify_lake(lake)


def test_a_damaged_format_version_is_damage(lake: Path) -> None:
    path = file_of(lake, "runs")
    version = re.compile(rb"(?<=prunelake.format_version..)" + str(FORMAT_VERSION).encode())
    content, changes = version.subn(b"9", path.read_bytes())
    assert changes == 1
    path.write_bytes(content)
    assert "SHA-256 differs" in only_finding(lake).problem


def test_leftovers_are_found(lake: Path) -> None:
    orphan = lake / "layers" / "dead.parquet"
    orphan.write_bytes(b"")
    temporary = lake / "layers" / ".dead.123.tmp"
    temporary.write_bytes(b"")
    assert {f.file: f.problem for f in verify_lake(lake)} == {
        orphan: "leftover: belongs to no complete run",
        temporary: "leftover: a temporary file",
    }


def test_no_lake_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="no lake at"):
        verify_lake(tmp_path / "absent")


def test_an_unlisted_file_is_found(lake: Path) -> None:
    runs = pl.read_parquet(file_of(lake, "runs"))
    listed = [entry for entry in runs["files"].to_list()[0] if entry["table"] != "layers"]
    runs = runs.with_columns(pl.Series("files", [listed], dtype=runs.schema["files"]))
    rewrite_manifest(file_of(lake, "runs"), runs)
    assert only_finding(lake).problem == "its runs file does not list it"


@pytest.mark.parametrize("version", [None, ANALYSIS_VERSION - 1])
def test_a_run_without_a_current_analysis_is_found(lake: Path, version: int | None) -> None:
    if version is None:
        for name in ANALYSIS_TABLES:
            file_of(lake, name).unlink()
    else:
        write_analysis(lake, *small_analysis(RUN_ID, analysis_version=version))
    finding = only_finding(lake)
    assert finding.file == file_of(lake, "analyses")
    assert finding.remedy == "run `prunelake analyse`"


def test_leftovers_of_a_killed_analysis_are_found(lake: Path) -> None:
    file_of(lake, "analyses").unlink()
    findings = {f.file: f for f in verify_lake(lake)}
    assert findings.keys() == {file_of(lake, name) for name in ANALYSIS_TABLES}
    assert {f.remedy for f in findings.values()} == {"run `prunelake analyse`"}
    write_analysis(lake, *small_analysis(RUN_ID))
    assert verify_lake(lake) == []


def test_an_analysis_without_its_run_is_found(lake: Path) -> None:
    for name in RUN_TABLES:
        file_of(lake, name).unlink(missing_ok=True)
    findings = {f.file: f.problem for f in verify_lake(lake)}
    assert findings.keys() == {file_of(lake, name) for name in ANALYSIS_TABLES}
    assert set(findings.values()) == {"leftover: belongs to no complete run"}
