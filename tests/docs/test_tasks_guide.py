"""docs/tasks.md: the example to copy, and the command that checks it."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from prunelake.cli.app import app
from prunelake.tasks.catalogue import Task, get_task
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


def test_the_example_is_the_file_that_it_names_and_prints_what_the_page_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = ROOT / "docs" / "tasks"
    task_file, hub_task = blocks("yaml")
    assert (folder / "capitals.yaml").read_text().endswith(task_file)
    assert (folder / "capitals.jsonl").read_text().startswith(blocks("json")[0])
    monkeypatch.chdir(ROOT)
    command = blocks("sh")[0]
    assert CliRunner().invoke(app, command.split()[1:]).stdout == blocks("text")[0]
    shown, kept = yaml.safe_load(hub_task), get_task(str(folder / "sst2_review.yaml"))
    assert Task.model_validate({"name": "sst2_review", **shown}).prompt == kept.prompt


def test_the_page_describes_every_field() -> None:
    rows = "".join(line for line in GUIDE.splitlines() if line.startswith("| `"))
    assert set(Task.model_fields) == {name for name in Task.model_fields if f"`{name}`" in rows}
