"""`prunelake watch`: output and exit code."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.cli import watch as cli_watch
from prunelake.errors import ModelNotFound
from prunelake.lake import commit
from prunelake.schema.run_tables import RUN_TABLES
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from tests.support.command_line import call
from tests.support.runs.lake_rows import run_row
from tests.support.sweeps.fake_launcher import saved_model, watchlist

WATCH = ("watch", "watchlist.yaml")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNELAKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")

    def sweep(spec: SweepSpec, settings: Settings) -> str:
        """Fail for models called bad; for others, write the run that a sweep would."""
        from prunelake.models.references import hash_files, model_files

        if spec.model.endswith("bad"):
            raise ModelNotFound("no weights [here]")
        row: dict[str, Any] = run_row(
            spec.model,
            model=spec.model,
            task=spec.task,
            spec=spec.model_dump_json(),
            revision=hash_files(model_files(Path(spec.model))),
        )
        frames = {
            n: t.frame([]) for n, t in RUN_TABLES.items() if n != "runs" and not t.is_optional
        }
        commit.write_run(settings.lake, row, frames)
        return str(row["run_id"])

    monkeypatch.setattr(cli_watch, "evaluate", sweep)


def test_a_round_prints_a_table_and_a_summary_and_failures_set_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bad", "good"):
        saved_model(tmp_path / name, name)
    watchlist(tmp_path, {"model": "bad"}, {"model": "good"})
    assert call(monkeypatch, *WATCH, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 missing"
    assert not (tmp_path / "lake").exists()
    assert call(monkeypatch, *WATCH) == 1
    out = capsys.readouterr().out
    assert "no weights [here] (next" in " ".join(out.split())
    assert out.splitlines()[-1] == "1 evaluated, 1 failed"
    assert call(monkeypatch, *WATCH) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 waiting"
    assert call(monkeypatch, *WATCH, "--retry") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 failed"
    watchlist(tmp_path, {"model": "good"})
    assert call(monkeypatch, *WATCH) == 0
    assert capsys.readouterr().out == "everything on the watchlist is in the lake\n"


def test_deploy_needs_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    watchlist(tmp_path)
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        assert call(monkeypatch, *WATCH, "--deploy") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: no Prefect server to hand sweeps to: set PREFECT_API_URL")
    assert len(err.splitlines()) == 1
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert call(monkeypatch, *WATCH, "--deploy") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: the Prefect server at http://127.0.0.1:9/api does not answer")
    assert len(err.splitlines()) == 1
