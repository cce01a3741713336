"""Every command refuses a lake of another format version, with one line that names the remedy."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import main
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.publish import publish
from prunelake.schema.table import FORMAT_VERSION
from tests.support.lakes.lake_files import set_format_version
from tests.support.runs.lake_rows import small_analysis, small_run
from tests.support.sweeps.fake_launcher import watchlist

OLDER_FORMAT = FORMAT_VERSION - 1

PUBLISHED_TABLE = """model,task,removed_layers,accuracy,ece
m,rte,0,0.5,0.25
m,rte,1,0.5,0.25
"""

COMMANDS = [
    "analyse",
    "compact",
    "doctor",
    "doctor --quarantine",
    "doctor --repair",
    "export {model} --level 1 --out exported",
    "gc",
    "import table published.csv",
    "profile --model {model} --levels 0,1",
    "publish",
    "recommend --model tiny",
    "report",
    "retire",
    "retire --delete",
    "serve --port 0",
    "sql 'from runs'",
    "sweep --model {model} --task opinions --rows 1 --strategy last --levels 0,1",
    "views",
    "watch watchlist.yaml",
]


@pytest.fixture(scope="module")
def older_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake of one run and its analysis, as another version would have written it."""
    lake = tmp_path_factory.mktemp("lake")
    run, frames = small_run()
    write_run(lake, run, frames)
    write_analysis(lake, *small_analysis(str(run["run_id"])))
    publish(lake, analyse)
    for table in ("runs", "analyses"):
        (manifest,) = (lake / table).glob("*.json")
        set_format_version(manifest, OLDER_FORMAT)
    return lake


@pytest.mark.parametrize("command", COMMANDS)
def test_a_lake_of_another_format_is_one_clear_error(
    command: str,
    older_lake: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lake = shutil.copytree(older_lake, tmp_path / "lake")
    before = files_in(lake)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNELAKE_LAKE", str(lake))
    monkeypatch.setenv("PRUNELAKE_CACHE", str(tmp_path / "cache"))
    Path("published.csv").write_text(PUBLISHED_TABLE)
    watchlist(tmp_path, {"model": str(tiny_folder)})
    arguments = shlex.split(command.format(model=tiny_folder))
    monkeypatch.setattr(sys, "argv", ["prunelake", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    message = capsys.readouterr().err.splitlines()[-1]
    assert exit_.value.code == 1, message
    assert message.startswith(f"error: {lake}/")
    assert f"has format {OLDER_FORMAT}, and this version of PruneLake reads format " in message
    assert f"format {FORMAT_VERSION}; use the version that wrote it, or another lake" in message
    assert files_in(lake) == before


def files_in(lake: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in lake.glob("*/*") if path.is_file()}
