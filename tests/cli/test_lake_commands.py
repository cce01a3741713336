"""Commands that read or maintain a lake: output and exit codes."""

import json
import shutil
from pathlib import Path

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.lake import commit, read
from prunelake.lake.maintenance.verify import verify_lake
from tests.support.api.report_page import draw_only
from tests.support.command_line import call
from tests.support.paths import ROOT
from tests.support.runs.lake_rows import small_run


@pytest.fixture(scope="module")
def analysed_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    run, written = small_run()
    commit.write_run(folder, run, written)
    analyse(folder, str(run["run_id"]))
    return folder


@pytest.fixture
def lake_with_run(analysed_lake: Path, tmp_path: Path) -> Path:
    """A lake with one run, analysed."""
    return shutil.copytree(analysed_lake, tmp_path / "lake")


@pytest.mark.parametrize("command", [["sql", "from metrics"], ["report"]])
def test_a_run_with_a_damaged_file_is_hidden_and_named(
    command: list[str],
    lake_with_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (run_id,) = read.run_ids(lake_with_run)
    (bad,) = (lake_with_run / "predictions").glob("*.parquet")
    bad.write_bytes(b"not parquet")
    assert call(monkeypatch, *command, "--lake", str(lake_with_run)) == 0
    captured = capsys.readouterr()
    notice = f"runs hidden because a file is damaged: {run_id}; the view damaged_runs lists the"
    assert notice in captured.err
    assert run_id not in captured.out


def test_sql_prints_each_format(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select level, count(*) as n from predictions group by level order by level"

    def printed(*options: str) -> str:
        assert call(monkeypatch, "sql", query, *options, "--lake", str(lake_with_run)) == 0
        return capsys.readouterr().out

    rows = json.loads(printed("--format", "json"))
    assert rows
    assert set(rows[0]) == {"level", "n"}
    csv = printed("--format", "csv").splitlines()
    assert csv[0] == "level,n"
    assert len(csv) == len(rows) + 1
    assert "level" in printed()


def test_sql_ends_a_query_that_takes_too_long(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endless = "select count(*) from range(10000000000000) as a where range % 7 = 8"
    options = ["--seconds", "0.2", "--lake", str(lake_with_run)]
    assert call(monkeypatch, "sql", endless, *options) == 1
    assert capsys.readouterr().err == (
        "error: the query took more than 0.2 s; ask for less, or raise --seconds\n"
    )


def test_sql_says_that_there_are_no_rows(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select level from predictions where level = 99"
    assert call(monkeypatch, "sql", query, "--format", "csv", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr() == ("level\n", "no rows\n")


def test_csv_and_json_print_lists_and_nan(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select [1.5, 'nan'::double] as a, 'inf'::double as b"
    assert call(monkeypatch, "sql", query, "--format", "csv", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr().out == 'a,b\n"[1.5,null]",inf\n'
    assert call(monkeypatch, "sql", query, "--format", "json", "--lake", str(lake_with_run)) == 0
    assert json.loads(capsys.readouterr().out) == [{"a": [1.5, None], "b": None}]


def test_views_lists_every_view_with_its_grain(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "views", "--format", "json", "--lake", str(lake_with_run)) == 0
    listed = {row["view"]: row["comment"] for row in json.loads(capsys.readouterr().out)}
    assert {"metrics", "deltas", "correlations", "summary"} <= set(listed)
    assert all(listed.values())
    assert call(monkeypatch, "views", "--lake", str(lake_with_run)) == 0
    text = capsys.readouterr().out
    assert all(f"{name}\n  {comment}\n  columns: " in text for name, comment in listed.items())


def test_doctor_accepts_a_good_lake_and_names_a_bad_file(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "doctor", "--lake", str(lake_with_run)) == 0
    assert "1 run" in capsys.readouterr().out
    (bad,) = (lake_with_run / "examples").glob("*.parquet")
    bad.unlink()
    assert call(monkeypatch, "doctor", "--lake", str(lake_with_run)) == 1
    assert str(bad.name) in capsys.readouterr().out


def test_analyse_computes_missing_analyses(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, written = small_run("second")
    commit.write_run(lake_with_run, run, written)
    assert call(monkeypatch, "doctor", "--lake", str(lake_with_run)) == 1
    assert "run `prunelake analyse`" in capsys.readouterr().out
    assert call(monkeypatch, "analyse", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr().out == f"analysed run {run['run_id']}\n"
    assert call(monkeypatch, "doctor", "--lake", str(lake_with_run)) == 0
    capsys.readouterr()
    assert call(monkeypatch, "analyse", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr().out == "nothing to analyse\n"
    assert call(monkeypatch, "analyse", "--lake", str(lake_with_run / "absent")) == 1
    assert "no lake at" in capsys.readouterr().err


def test_compact_keeps_the_runs(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, written = small_run("second")
    commit.write_run(lake_with_run, run, written)
    analyse(lake_with_run, str(run["run_id"]))
    ids = read.run_ids(lake_with_run)
    assert call(monkeypatch, "compact", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr().out == f"{lake_with_run}: readers open 15 files instead of 30\n"
    assert call(monkeypatch, "doctor", "--lake", str(lake_with_run)) == 0
    assert read.run_ids(lake_with_run) == ids


def test_import_harness_reads_one_log_per_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, folder = ROOT / "tests" / "imports" / "data" / "harness", tmp_path / "lake"
    levels = ["--level", f"0={logs / 'level_0'}", "--level", f"1={logs / 'level_1'}"]
    assert call(monkeypatch, "import", "harness", *levels, "--lake", str(folder)) == 0
    assert "removed" in capsys.readouterr().out
    (run_id,) = read.run_ids(folder)
    assert call(monkeypatch, "import", "harness", *levels, "--lake", str(folder)) == 0
    assert f"run {run_id} is in the lake already" in capsys.readouterr().out
    assert call(monkeypatch, "import", "harness", "--level", "deep", "--lake", str(folder)) == 1
    assert "LEVEL=PATH" in capsys.readouterr().err
    assert not verify_lake(folder)
    draw_only(monkeypatch, "verdicts")
    out = tmp_path / "report.html"
    assert call(monkeypatch, "report", "--lake", str(folder), "--out", str(out)) == 0
    page = out.read_text(encoding="utf-8")
    assert "order not known" in page
    assert "None" not in page


def test_publish_says_whether_the_snapshot_was_current(
    lake_with_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = lake_with_run / "prunelake.duckdb"
    assert call(monkeypatch, "publish", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr().out == f"Published: {snapshot}\n"
    assert call(monkeypatch, "publish", "--lake", str(lake_with_run)) == 0
    assert capsys.readouterr().out == f"{snapshot} is current already\n"


def test_report_writes_a_page_with_every_run(
    lake_with_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report.html"
    assert call(monkeypatch, "report", "--lake", str(lake_with_run), "--out", str(out)) == 0
    (run_id,) = read.run_ids(lake_with_run)
    assert run_id in out.read_text()
