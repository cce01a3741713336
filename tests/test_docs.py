import re
from pathlib import Path

import typer

from prunelake.cli import app
from prunelake.spec import Settings
from prunelake.tasks import names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_settings_table_names_every_variable_that_is_read() -> None:
    listed = set(re.findall(r"^\| `(PRUNELAKE_\w+)`", README, re.MULTILINE))
    fields = {f"PRUNELAKE_{name.upper()}" for name in Settings.model_fields}
    options = {
        parameter.envvar
        for command in typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]  # a group
        for parameter in command.params
        if parameter.envvar
    }
    assert listed == fields | options


def test_every_command_that_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"prunelake (\w+)", README))
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group
    assert shown <= commands
    assert shown


def test_every_task_is_named() -> None:
    assert all(f"`{name}`" in README for name in names())


def test_documents_link_to_files_that_exist() -> None:
    for document in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
