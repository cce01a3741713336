"""Commands in this process: output, exit codes and one-line errors."""

import hashlib
import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from api.settings import ApiSettings
from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.lake import commit, read
from prunelake.lake.maintenance.verify import verify_lake
from prunelake.settings import OTHER_VARIABLES
from tests.support.api.report_page import draw_only
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


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["prunelake", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def file_hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def test_the_list_of_commands_shows_whole_sentences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    commands = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert len(commands) > 20
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_an_invalid_variable_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRUNELAKE_TASK_RUNNER", "magic")
    assert call(monkeypatch, "views") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: PRUNELAKE_TASK_RUNNER=magic: Input should be 'local' or 'ray'")


def test_a_misspelt_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRUNELAKE_LAEK", "elsewhere")
    assert call(monkeypatch, "views") == 1
    assert capsys.readouterr().err == (
        "error: PRUNELAKE_LAEK is not a variable of PruneLake; write PRUNELAKE_LAKE\n"
    )


def test_the_variables_of_the_server_are_known() -> None:
    of_server = {f"PRUNELAKE_API_{name.upper()}" for name in ApiSettings.model_fields}
    assert set(OTHER_VARIABLES) == {"PRUNELAKE_DTYPE"} | of_server


def test_a_full_device_is_an_error_of_one_line(lake_with_run: Path) -> None:
    command = [sys.executable, "-c", "from prunelake.cli.app import main; main()"]
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [*command, "sql", "from range(9)", "--lake", str(lake_with_run)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert answer.returncode == 1
    message = "error: the output cannot be written: no space left on its device\n"
    assert answer.stderr == message


def test_the_bare_command_prints_the_first_steps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    commands = [line.split()[1] for line in lines if line.startswith("  prunelake ")]
    assert commands == ["demo", "sweep", "sweep", "task", "sql"]
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"prunelake {version('prunelake')}\n"


BAD_SWEEPS = {
    "unknown model": (["--model", "nowhere", "--task", "opinions", "--rows", "5"], "nowhere"),
    "unknown package": (
        ["--model", "package:absent/x.gguf", "--task", "opinions", "--rows", "5"],
        "no Python package absent is installed",
    ),
    "unknown task": (["--task", "nothing"], "everyday_knowledge"),
    "no task": ([], "--task"),
    "level beyond the layers": (["--task", "opinions", "--rows", "5", "--levels", "0,31"], "30"),
    "level that is no number": (["--task", "opinions", "--levels", "deep"], "0,4,8"),
    "negative level": (["--task", "opinions", "--rows", "5", "--levels=-1"], "levels"),
    "empty selection": (["--task", "opinions", "--rows", "0"], "0"),
    "more rows than there are": (["--task", "opinions", "--rows", "501"], "500"),
    "unknown method": (["--task", "opinions", "--rows", "5", "--methods", "magic"], "kernel_shap"),
    "unknown strategy": (["--task", "opinions", "--rows", "5", "--strategy", "best"], "divergence"),
    "too few rows to search on": (
        ["--task", "opinions", "--rows", "481", "--strategy", "divergence"],
        "set --search-rows to at most 19",
    ),
    "no data": (["--task", "boolq", "--rows", "5"], "boolq"),
    "too little calibration text": (
        ["--task", "opinions", "--rows", "5", "--calibration", "{tmp}/short.txt"],
        "tokens",
    ),
    "spec that is no YAML": (["{tmp}/broken.yaml"], "broken.yaml"),
    "seed beyond what the lake keeps": (
        ["--task", "opinions", "--rows", "sample:5:99999999999"],
        "less than 2147483648",
    ),
    "options beside a spec file": (["{tmp}/extra.yaml", "--rows", "9"], "--rows"),
    "spec in another encoding": (["{tmp}/latin.yaml"], "latin.yaml"),
    "negative seed": (
        ["--task", "opinions", "--seeds=0,-1"],
        "--seeds -1: Input should be greater",
    ),
    "bounds without explanations": (
        ["--task", "opinions", "--methods", "none", "--bounds-beam", "3", "--explain-rows", "9"],
        "--explain-rows, --bounds-beam with --methods none",
    ),
    "length of texts without texts": (
        ["--task", "opinions", "--text-tokens", "8"],
        "--text-tokens needs --text-rows",
    ),
    "no texts": (
        ["--task", "opinions", "--text-rows", "0"],
        "--text-rows 0: Input should be greater",
    ),
    "calibration text for an order without": (
        ["--task", "opinions", "--strategy", "last", "--calibration", "c4"],
        "--calibration with --strategy last: this order reads no text",
    ),
    "empty spec": (["{tmp}/empty.yaml"], "empty.yaml is empty; write at least `task: every"),
    "random order of no seed": (["--task", "opinions", "--strategy", "random:"], "seed"),
    "spec with an unknown field": (["{tmp}/extra.yaml"], "colour"),
}


@pytest.mark.usefixtures("smollm2")
@pytest.mark.parametrize("name", BAD_SWEEPS)
def test_an_invalid_sweep_is_an_error_of_one_line(
    name: str,
    lake_with_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "short.txt").write_text("Far too short.")
    (tmp_path / "broken.yaml").write_text("task: [")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "extra.yaml").write_text("task: opinions\ncolour: red\n")
    (tmp_path / "latin.yaml").write_bytes(b"task: caf\xe9\n")
    monkeypatch.setenv("PRUNELAKE_DATA", str(tmp_path))
    before = file_hashes(lake_with_run)
    arguments, mentioned = BAD_SWEEPS[name]
    arguments = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert call(monkeypatch, "sweep", *arguments, "--lake", str(lake_with_run)) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.strip().splitlines()) == 1
    assert not out
    assert file_hashes(lake_with_run) == before


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (["sql", "select nothing from nowhere"], "nowhere"),
        (["sql", "drop view metrics"], "error"),
        (["sql", "select 1 as a, 2 as a"], "distinct"),
        (["sql", "select 1", "--format", "parquet"], "--out"),
        (["sql", "select 1", "--format", "csv", "--out", "/proc/no/such"], "--out"),
    ],
)
def test_an_invalid_query_is_an_error_of_one_line(
    arguments: list[str],
    mentioned: str,
    lake_with_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = file_hashes(lake_with_run)
    assert call(monkeypatch, *arguments, "--lake", str(lake_with_run)) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.strip().splitlines()) == 1
    assert file_hashes(lake_with_run) == before


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
    assert capsys.readouterr().out == f"{lake_with_run}: readers open 14 files instead of 28\n"
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


def test_nothing_is_printed_after_the_error() -> None:
    # DuckDB's binding prints like this object when the interpreter ends after a flow.
    code = (
        "import os, sys\n"
        "class Leaked:\n"
        "    def __del__(self, write=os.write):\n"
        "        write(2, b'leaked')\n"
        "sys.leaked = Leaked()\n"
        "from prunelake.cli.app import main\n"
        "sys.argv = ['prunelake', 'sweep', '--task', 'bolq']\n"
        "main()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: unknown task 'bolq'; choose from arc_challenge")
    assert "leaked" not in answer.stderr
