"""Commands in this process: help, invalid input, and one-line errors."""

import hashlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from api.settings import ApiSettings
from prunelake.lake import commit
from prunelake.settings import OTHER_VARIABLES
from tests.support.command_line import call
from tests.support.runs.lake_rows import small_analysis, small_run


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with one analysed run; no command of this file changes it."""
    folder = tmp_path_factory.mktemp("lake")
    run, frames = small_run()
    commit.write_run(folder, run, frames)
    commit.write_analysis(folder, *small_analysis(str(run["run_id"])))
    return folder


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


def test_a_full_device_is_an_error_of_one_line(lake: Path) -> None:
    command = [sys.executable, "-c", "from prunelake.cli.app import main; main()"]
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [*command, "sql", "from range(9)", "--lake", str(lake)],
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
    lake: Path,
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
    before = file_hashes(lake)
    arguments, mentioned = BAD_SWEEPS[name]
    arguments = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    assert call(monkeypatch, "sweep", *arguments, "--lake", str(lake)) == 1
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.strip().splitlines()) == 1
    assert not out
    assert file_hashes(lake) == before


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
    lake: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = file_hashes(lake)
    assert call(monkeypatch, *arguments, "--lake", str(lake)) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert mentioned in err
    assert len(err.strip().splitlines()) == 1
    assert file_hashes(lake) == before


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
