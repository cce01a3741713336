"""examples/quickstart.ipynb: its code runs, and its stored outputs belong to this code."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunelake.spec import DEFAULT_MODEL
from tests.support.notebook import code_cells, execute
from tests.support.paths import ROOT

NOTEBOOK = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))


def output_kinds(notebook: dict[str, Any]) -> list[list[str]]:
    return [
        [kind for output in cell["outputs"] for kind in output.get("data", ["printed"])]
        for cell in code_cells(notebook)
    ]


def test_the_notebook_is_stored_with_its_outputs_in_order() -> None:
    counts = [cell["execution_count"] for cell in code_cells(NOTEBOOK)]
    assert counts == [*range(1, len(counts) + 1)]
    kinds = [kind for kinds in output_kinds(NOTEBOOK) for kind in kinds]
    assert kinds.count("image/png") >= 2
    assert kinds.count("text/html") >= 2


def test_the_notebook_runs(
    deep_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PRUNELAKE_LAKE", raising=False)
    text = json.dumps(NOTEBOOK).replace(DEFAULT_MODEL, deep_model).replace("rows=300", "rows=60")
    notebook = json.loads(text)
    execute(notebook)
    assert output_kinds(notebook) == output_kinds(NOTEBOOK)
