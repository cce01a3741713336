"""The demo: computed on a tiny model, and the recorded results of the real model."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunelake.cli import demo
from prunelake.cli.app import app, main
from prunelake.lake.recorded import RECORDED_LAKE, unpack_lake
from prunelake.lake.sql import views
from prunelake.spec import SweepSpec
from prunelake.tasks.catalogue import get_task
from prunelake.tasks.rows import read_records
from tests.support.api.report_page import draw_only
from tests.support.plain_install import plain_python
from tests.support.runs.lake_rows import rows_of


def small(spec: dict[str, Any], model: Path) -> dict[str, Any]:
    """A spec of the demo with a tiny model and a few rows."""
    explain = spec["explain"] and spec["explain"] | {"rows": 1, "levels": [0, 1]}
    return spec | {
        "model": str(model),
        "rows": {"first": 4},
        "levels": [0, 1],
        "strategy": "last",
        "explain": explain,
    }


def test_the_demo_prints_findings_and_writes_a_report(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw_only(monkeypatch, "verdicts")
    monkeypatch.setattr(demo, "DEMO_SPECS", [small(spec, tiny_folder) for spec in demo.DEMO_SPECS])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    app(["demo", "--lake", "here"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    found = [
        line.partition(":")[0] for line in lines if re.search(": No (verdict|level) is ", line)
    ]
    tasks = "opinions", "everyday_knowledge"
    assert sorted(found) == sorted(f"{tiny_folder.name} on {task}" for task in tasks)
    assert lines[0].startswith(found[0])
    assert (tmp_path / "report.html").is_file()
    assert "Report: report.html" in lines
    assert "Page:   prunelake serve --lake here" in lines
    assert f'SQL:    prunelake sql --lake here "{demo.VERDICTS_QUERY}"' in lines
    views.query(Path("here"), demo.VERDICTS_QUERY)


def test_the_demo_predicts_all_rows_of_its_tasks() -> None:
    for fields in demo.DEMO_SPECS:
        spec = SweepSpec.model_validate(fields)
        _, records = read_records(get_task(spec.task), None)
        assert spec.rows.first == len(records)


def test_recorded_results_open_after_a_plain_installation(tmp_path: Path) -> None:
    code = plain_python() + (
        "from prunelake.api.report import run_section\n"
        "from prunelake.cli.app import app\n"
        # Charts take longest.
        "run_section.CHARTS = {'verdicts': run_section.CHARTS['verdicts']}\n"
        "app(['demo', '--recorded', '--report', 'recorded.html'], standalone_mode=False)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PRUNELAKE_CACHE": str(tmp_path / "cache"), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = answer.stdout.splitlines()
    assert ": Without 1 attention layer, hidden degradation of comprehensiveness" in lines[0]
    (lake,) = (tmp_path / "cache" / "recorded").iterdir()
    assert f"Page:   prunelake serve --lake {lake}" in lines
    *shown, last = [line for line in lines if "prunelake " in line]
    assert all(f" --lake {lake}" in line for line in shown)
    assert last == "Next:   prunelake sweep --model hub:ORG/NAME --task everyday_knowledge"
    assert ": Without 4 attention layers" in (tmp_path / "recorded.html").read_text()
    assert not (tmp_path / "lake").exists()


def test_recorded_results_have_a_lake_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prunelake", "demo", "--recorded", "--lake", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert capsys.readouterr().err == ("error: --recorded brings its own lake; leave out --lake\n")


def test_the_recorded_results_show_hidden_harm_a_harmless_level_and_faithfulness(
    tmp_path: Path,
) -> None:
    lake = unpack_lake(RECORDED_LAKE, tmp_path)
    verdicts = {
        (row["task"], row["level"], row["metric"]): row["verdict"]
        for row in rows_of(lake, "from headline_metrics where is_judged")
    }
    headline = ("accuracy", "ece", "comprehensiveness", "sufficiency")
    assert {verdicts["opinions", 4, metric] for metric in headline} == {"equivalent"}
    assert verdicts["sst2_review", 1, "accuracy"] == "equivalent"
    assert verdicts["sst2_review", 1, "comprehensiveness"] == "hidden degradation"
    assert rows_of(lake, demo.VERDICTS_QUERY)
