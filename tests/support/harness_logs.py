"""A real log of lm-evaluation-harness 0.4.13 (a tiny random Llama), and changes to its rows."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOGS = Path(__file__).parents[1] / "imports" / "data" / "harness"
LEVELS = {0: LOGS / "level_0", 1: LOGS / "level_1"}

Log = list[dict[str, Any]]


def read_log(level: int) -> Log:
    (path,) = LEVELS[level].glob("samples_*")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def results(level: int) -> dict[str, Any]:
    (path,) = LEVELS[level].glob("results_*")
    value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return value


def save(folder: Path, rows: Log, task: str = "mini") -> Path:
    """Write a log without a results file beside it."""
    path = folder / f"samples_{task}_2026-01-02T03-04-05.678.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def with_target(row: dict[str, Any], target: str) -> dict[str, Any]:
    return row | {"target": target, "target_hash": hashlib.sha256(target.encode()).hexdigest()}


def option_texts(row: dict[str, Any]) -> list[str]:
    return [argument["arg_1"].removeprefix(" ") for argument in row["arguments"].values()]


def with_text_targets(rows: Log) -> Log:
    return [with_target(row, option_texts(row)[row["doc"]["label"]]) for row in rows]


def no_column(name: str) -> Callable[[Log], Log]:
    return lambda rows: [{k: v for k, v in row.items() if k != name} for row in rows]


def impossible(row: dict[str, Any], value: str | float) -> dict[str, Any]:
    """The row with this log-likelihood of its least likely option."""
    (row,) = no_column("acc_norm")(no_column("acc_bytes")([row]))
    answers = row["filtered_resps"]
    last = min(range(len(answers)), key=lambda option: float(answers[option][0]))
    return row | {"filtered_resps": [*answers[:last], [value, "False"], *answers[last + 1 :]]}
