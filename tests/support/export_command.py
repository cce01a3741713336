"""`prunelake export` in a test: its command, the lake that it reads, and the files it writes."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from prunelake.cli.app import main
from tests.support.models.tiny_models import LAYER_COUNT
from tests.support.runs.example_runs import explained_run

ORDER = [3, 0, 1, 4, 2]
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def export(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prunelake", "export", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def add_run(revision: str, name: str = "run", **columns: Any) -> str:
    """Write a run of the tiny model with levels 0 to 2 and explanations; return its id."""
    row: dict[str, Any] = {"revision": revision, "removal_order": ORDER, "task": "demo"}
    row |= {"layer_count": LAYER_COUNT}
    return explained_run(Path("lake"), name, **row | columns)


def file_contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = model(input_ids=IDS).logits
    return output
