"""A task of short questions in files, for a model of letters."""

import json
from collections.abc import Sequence
from pathlib import Path

import yaml


def write_task(folder: Path, name: str, rows: Sequence[tuple[int, str, int]]) -> Path:
    """A task of rows: a number that only orders the rows, a question and the gold option."""
    lines = [json.dumps({"text": text, "label": gold}) for _, text, gold in sorted(rows)]
    (folder / f"{name}.jsonl").write_text("\n".join(lines))
    task = {"name": name, "description": "", "source": "", "license": "", "split": "test"}
    task |= {"bundled": str(folder / f"{name}.jsonl"), "prompt": "{text}?"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(task | {"options": ["no", "ye"], "gold": {"column": "label"}}))
    return path
