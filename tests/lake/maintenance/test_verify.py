"""`prunelake doctor` finds every kind of damage and every leftover in a lake."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from prunelake.errors import LakeError, WrongFormat
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.files.damage import find_damage
from prunelake.lake.files.entries import retire_owner
from prunelake.lake.files.findings import Finding, FindingKind
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.schema.analysis_tables import ANALYSIS_TABLES, ANALYSIS_VERSION
from prunelake.schema.run_tables import RUN_TABLES
from tests.support.endurance import repeats
from tests.support.lakes.compacted_lakes import TABLES_WITH_ROWS
from tests.support.lakes.lake_files import (
    data_file_of,
    flip_byte,
    manifest_of,
    rewrite_data_file,
    rewrite_manifest,
    set_format_version,
    stored_manifest,
)
from tests.support.runs.lake_rows import (
    bound,
    frames,
    identity_of,
    named_level,
    run_row,
    small_analysis,
    small_run,
)

RUN_ID = identity_of("run")[1]


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
    before = {p: p.read_bytes() for p in lake.glob("*/*")}
    (finding,) = verify_lake(lake)
    assert before == {p: p.read_bytes() for p in lake.glob("*/*")}
    assert finding.remedy
    return finding


def file_of(lake: Path, table: str) -> Path:
    return data_file_of(lake, table, RUN_ID)


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
def test_a_flipped_byte_is_found_in_every_table(lake: Path, table: str) -> None:
    path = file_of(lake, table)
    flip_byte(path)
    findings = verify_lake(lake)
    assert {f.file for f in findings} == {path}
    assert "SHA-256 differs" in findings[0].problem
    retry = "run `prunelake analyse`" if table in ANALYSIS_TABLES else "sweep again"
    remedy = f"restore the file; or run `prunelake doctor --quarantine` and {retry}"
    assert findings[0].remedy == remedy


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
def test_a_truncated_file_is_found(lake: Path, table: str) -> None:
    path = file_of(lake, table)
    path.write_bytes(path.read_bytes()[:-20])
    findings = verify_lake(lake)
    assert {f.file for f in findings} == {path}


@pytest.mark.parametrize("table", TABLES_WITH_ROWS)
def test_a_missing_file_is_found(lake: Path, table: str) -> None:
    file_of(lake, table).unlink()
    assert only_finding(lake).problem == "missing"


@pytest.mark.parametrize("table", ["runs", "analyses"])
def test_a_change_to_any_byte_of_a_manifest_is_found(lake: Path, table: str) -> None:
    path = manifest_of(lake, RUN_ID, table)
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // repeats(10, 30)):
        flip_byte(path, position)
        assert path in {damage.file for damage in find_damage(lake)}, position
        path.write_bytes(content)
    assert list(find_damage(lake)) == []


def test_another_schema_is_found(lake: Path) -> None:
    rewrite_data_file(lake, "layers", RUN_ID, pl.DataFrame({"x": [1]}))
    assert "another schema: has ['x Int64']" in only_finding(lake).problem


def test_another_row_count_is_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "layers"))
    rewrite_data_file(lake, "layers", RUN_ID, frame.head(1))
    assert only_finding(lake).problem == f"1 rows of run {RUN_ID} instead of 2"


def test_rows_of_another_run_are_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "examples"))
    rewrite_data_file(lake, "examples", RUN_ID, frame.with_columns(run_id=pl.lit("other")))
    assert only_finding(lake).problem == f"rows of run other instead of {RUN_ID}"


def test_a_repeated_key_is_found(lake: Path) -> None:
    frame = pl.read_parquet(file_of(lake, "layers"))
    rewrite_data_file(lake, "layers", RUN_ID, frame.with_columns(layer=pl.lit(0, dtype=pl.Int32)))
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
    set_format_version(manifest_of(lake, RUN_ID), 7)
    with pytest.raises(WrongFormat, match=r"has format 7, .* reads format 3; use the version"):
        verify_lake(lake)


def test_a_damaged_format_version_is_damage(lake: Path) -> None:
    path = manifest_of(lake, RUN_ID)
    text = path.read_text()
    assert text.count('"format_version": 3,') == 1
    path.write_text(text.replace('"format_version": 3,', '"format_version": 2,'))
    assert {f.file for f in verify_lake(lake)} == {path}


def test_leftovers_are_found(lake: Path) -> None:
    orphan = lake / "layers" / "dead.1.0123456789abcdef.parquet"
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
    listed = stored_manifest(lake, RUN_ID).files
    files = {name: file.model_dump() for name, file in listed.items() if name != "layers"}
    unlisted = file_of(lake, "layers")
    path = manifest_of(lake, RUN_ID)
    rewrite_manifest(path, files=files)
    assert {f.file: f.problem for f in verify_lake(lake)} == {
        path: "it lists no file of the table layers",
        unlisted: "leftover: belongs to no complete run",
    }


@pytest.mark.parametrize("version", [None, ANALYSIS_VERSION - 1])
def test_a_run_without_a_current_analysis_is_found(lake: Path, version: int | None) -> None:
    stored = stored_manifest(lake, RUN_ID, "analyses")
    retire_owner(lake, ANALYSIS_TABLES, stored, RUN_ID)
    if version is not None:
        write_analysis(lake, *small_analysis(RUN_ID, analysis_version=version))
    finding = only_finding(lake)
    assert finding.file == lake / "analyses"
    assert finding.problem == f"run {RUN_ID} has no analysis of this version"
    assert (finding.kind, finding.run_id) == (FindingKind.unanalysed, RUN_ID)
    assert finding.remedy == "run `prunelake analyse`"


def test_leftovers_of_a_killed_analysis_are_found(lake: Path) -> None:
    files = {file_of(lake, name) for name in ANALYSIS_TABLES}
    manifest_of(lake, RUN_ID, "analyses").unlink()
    findings = {f.file: f.kind for f in verify_lake(lake)}
    assert findings.pop(lake / "analyses") is FindingKind.unanalysed
    assert findings == dict.fromkeys(files, FindingKind.orphaned)
    write_analysis(lake, *small_analysis(RUN_ID))
    assert verify_lake(lake) == []


def test_a_lost_manifest_is_a_lost_run(lake: Path) -> None:
    manifest_of(lake, RUN_ID).unlink()
    finding = only_finding(lake)
    assert (finding.kind, finding.run_id) == (FindingKind.lost, RUN_ID)
    assert finding.problem == f"run {RUN_ID} (tiny, demo) has lost its manifest"
    assert finding.remedy == "run `prunelake doctor --repair` to restore it"


def test_an_analysis_without_its_run_is_no_problem(lake: Path) -> None:
    """It belongs to a measurement that was retired; garbage collection deletes it."""
    retire_owner(lake, RUN_TABLES, stored_manifest(lake, RUN_ID), RUN_ID)
    assert verify_lake(lake) == []
