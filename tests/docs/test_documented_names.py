import re
from pathlib import Path

import pytest
import typer

from prunelake.api.settings import ApiSettings
from prunelake.cli.app import app
from prunelake.cli.imports import import_app
from prunelake.schema.metrics import (
    DEFAULT_MARGIN,
    FLIP_MARGIN,
    METRIC_DEFINITIONS,
)
from prunelake.settings import Settings
from prunelake.tasks.catalogue import task_names
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EVALUATE_PAGE = (ROOT / "docs/evaluate.md").read_text(encoding="utf-8")
SETTINGS_PAGE = (ROOT / "docs/settings.md").read_text(encoding="utf-8")


def test_the_settings_table_names_every_variable_that_is_read() -> None:
    listed = set(re.findall(r"^\| `(PRUNELAKE_\w+)`", SETTINGS_PAGE, re.MULTILINE))
    fields = {f"PRUNELAKE_{name.upper()}" for name in Settings.model_fields}
    options = {
        parameter.envvar
        for command in typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]  # a group
        for parameter in command.params
        if parameter.envvar
    }
    of_server = {f"PRUNELAKE_API_{name.upper()}" for name in ApiSettings.model_fields}
    assert listed == fields | options | of_server


@pytest.mark.parametrize("name", ApiSettings.model_fields)
def test_the_settings_table_tells_the_server_s_defaults(name: str) -> None:
    row = re.search(
        rf"^\| `PRUNELAKE_API_{name.upper()}` \| (.*?) \| ", SETTINGS_PAGE, re.MULTILINE
    )
    assert row
    default = ApiSettings.model_fields[name].default
    if default in (None, ()):
        assert row[1].startswith("none: ")
    else:
        assert row[1] == f"`{str(default).lower().removesuffix('.0')}`"


def test_every_command_that_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"(?:^|`)prunelake (\w+)", README + EVALUATE_PAGE, re.MULTILINE))
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group
    assert shown <= commands
    assert shown


def test_every_format_of_an_import_is_named() -> None:
    formats = set(typer.main.get_command(import_app).commands)  # type: ignore[attr-defined]  # a group
    named = set(re.findall(r"^\| `prunelake import (\w+)", EVALUATE_PAGE, re.MULTILINE))
    assert named == formats, "docs/evaluate.md, the table of imports"


def test_the_python_of_the_readme_is_part_of_the_tested_guide() -> None:
    guide = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for line in filter(None, code.splitlines()):
        call = line.partition("  #")[0].replace("pl.open_lake()", "lake").partition("(")[0]
        assert call in guide, line


def test_every_metric_is_defined_for_readers() -> None:
    text = (ROOT / "docs/statistics.md").read_text(encoding="utf-8")
    missing = [name for name in METRIC_DEFINITIONS if f"`{name}`" not in text]
    assert not missing, f"docs/statistics.md does not define {missing}"


def test_every_task_is_named() -> None:
    assert all(f"`{name}`" in EVALUATE_PAGE for name in task_names())


CODE_FOLDERS = ("api", "benchmarks", "flows", "lib", "sql", "tests")


@pytest.fixture(scope="module")
def code() -> dict[Path, str]:
    """The text of every Python and SQL file, by its path from the root."""
    paths = (path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.*"))
    return {
        path.relative_to(ROOT): path.read_text(encoding="utf-8")
        for path in paths
        if path.suffix in (".py", ".sql")
    }


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_and_name_of_a_developer_s_page_exists(page: str, code: dict[Path, str]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    quoted = {term.rstrip("()") for term in re.findall(r"`([\w./]+(?:\(\))?)`", text)}
    words = set(re.findall(r"\w+", "".join(code.values())))
    ends = {"/".join(path.parts[-n:]) for path in code for n in range(1, len(path.parts) + 1)}
    missing = {
        term
        for term in quoted
        if not re.search("NAME|FOLDER", term)
        and (
            term not in ends
            if term.endswith((".py", ".sql"))
            else term.isidentifier() and term not in words
        )
    }
    assert missing <= {"exhaustive"}, f"{page}: {missing}"  # a setting of import-linter


def test_documents_link_to_files_that_exist() -> None:
    for document in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ("docs/evaluate.md", "place its change within its margin ({})"),
        ("docs/analyst.md", "by the margins of `metric_definitions` ({}; {} for `flip_rate`)"),
        ("docs/statistics.md", "shows it. The default is {}; the margin of `flip_rate` is {}."),
        ("docs/recommend.md", "| how much worse each criterion may be; {} |"),
    ],
)
def test_the_margin_in_the_prose_matches_the_schema(page: str, sentence: str) -> None:
    others = {name for name, m in METRIC_DEFINITIONS.items() if m.margin != DEFAULT_MARGIN}
    assert others == {"flip_rate", "perplexity"}, f"name the margins of {others} in these pages"
    sentence = sentence.replace("{}", f"{DEFAULT_MARGIN:g}", 1).replace("{}", f"{FLIP_MARGIN:g}")
    assert sentence in " ".join((ROOT / page).read_text(encoding="utf-8").split())
