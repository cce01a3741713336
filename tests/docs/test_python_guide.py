"""docs/python.md: its code runs line by line, from top to bottom.

`make endurance` runs it on SmolLM2, as the page does, and compares the shown values; `make test`
runs it on a tiny model.
"""

import ast
import re
from pathlib import Path

import polars
import pytest

from prunelake.analysis import analyse
from prunelake.analysis.analyse import BOOTSTRAP_REPLICATES
from prunelake.spec import DEFAULT_MODEL
from tests.support.endurance import IS_ENDURANCE
from tests.support.notebook import run_cell
from tests.support.paths import ROOT

GUIDE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", GUIDE, re.DOTALL | re.MULTILINE
)
NUMBER = re.compile(r"-?\d+\.\d+")


def test_the_code_of_the_page_runs_line_by_line(
    deep_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if IS_ENDURANCE:
        monkeypatch.setattr(analyse, "BOOTSTRAP_REPLICATES", BOOTSTRAP_REPLICATES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNELAKE_LAKE", raising=False)
    names: dict[str, object] = {}
    for code, shown in BLOCKS:
        if not IS_ENDURANCE:
            code = code.replace(DEFAULT_MODEL, deep_model).replace("rows=360", "rows=60")
        value = run_cell(code, names)
        assert (value is not None) == bool(shown), code
        if IS_ENDURANCE and shown:
            with polars.Config(tbl_rows=-1, tbl_width_chars=100):
                found = repr(value)
            assert NUMBER.split(found) == NUMBER.split(shown.rstrip("\n")), code
            numbers = [[*map(float, NUMBER.findall(text))] for text in (found, shown)]
            assert numbers[0] == pytest.approx(numbers[1], abs=1e-3), code
    assert (tmp_path / "levels.png").read_bytes().startswith(b"\x89PNG")
    assert "choose 0, 4, 8" in str(names["message"])


def test_every_public_name_and_method_is_shown() -> None:
    import prunelake as pl

    code = "".join(block for block, _ in BLOCKS)
    used = {node.attr for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)}
    methods = {
        name
        for owner in (pl.Model, pl.Run, pl.Lake)
        for name, member in vars(owner).items()
        if callable(member) and not name.startswith("_")
    }
    assert (
        methods | {"load", "sweep", "compare", "check_gate", "open_lake", "PruneLakeError"} <= used
    )
