"""The guide's code, and runs whose answers to its questions follow by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.paths import ROOT
from tests.support.runs.lake_rows import (
    attribution,
    bound,
    deletion,
    example,
    prediction,
    run_row,
    write,
)

GUIDE = (ROOT / "docs" / "analyst.md").read_text(encoding="utf-8")
QUESTIONS = {
    int(number): sql
    for number, sql in re.findall(r"^### (\d+)\. .*?^```sql\n(.*?)^```", GUIDE, re.DOTALL | re.M)
}

DROPS = {
    ("kernel_shap", "delete_text"): 0.5,
    ("lime", "replace"): 0.375,
    ("random", "delete_text"): 0.25,
    ("random", "replace"): 0.25,
}
SURE = [0.99, 0.9, 0.8, 0.7, 0.65, 0.6]
RIGHT = [True, False, True, True, False, True]
SURENESS = [1.95, 3.0, 4.0, 4.5, 5.3, 5.3]
LOST = [0, 1, 2, 3, 8, 100]
POOLED = {"a": ([0.9, 0.8, 0.7], [0.3, 0.35, 0.4]), "b": ([0.5, 0.4, 0.3], [0.1, 0.12, 0.2])}


def answered_run(lake: Path, name: str, lost: list[int], **columns: Any) -> None:
    """400 examples, each eighth of them wrong; each level loses a given number of the others."""
    run = run_row(name, levels=list(range(len(lost))), example_count=400, **columns)
    run_id = str(run["run_id"])
    write(
        lake,
        run,
        predictions=[
            prediction(run_id, level, f"test:{i}", [-sure, 0.0] if is_wrong else [0.0, -sure])
            for level, (count, sure) in enumerate(zip(lost, SURENESS, strict=False))
            for i in range(400)
            for is_wrong in [i % 8 == 0 or (i % 2 == 1 and i // 2 < count)]
        ],
    )


def spread_run(lake: Path) -> None:
    """Predictions whose confidences are spread out, and one that cannot be scored."""
    run = run_row("spread", task="spread", levels=[0], example_count=len(SURE) + 1)
    run_id = str(run["run_id"])
    write(
        lake,
        run,
        examples=[example(run_id, f"test:{i}", position=i) for i in range(len(SURE) + 1)],
        predictions=[
            *(
                prediction(run_id, 0, f"test:{i}", np.log([p, 1 - p]).tolist(), int(not is_right))
                for i, (p, is_right) in enumerate(zip(SURE, RIGHT, strict=True))
            ),
            prediction(run_id, 0, f"test:{len(SURE)}", [np.nan, -1.0]),
        ],
    )


def seeds_run(lake: Path) -> None:
    """Two seeds that agree by 0.5; at level 1, the scores of every second example are reversed."""
    run = run_row("seeds", task="seeds", example_count=200)
    run_id = str(run["run_id"])
    names = [f"test:{i}" for i in range(200)]
    scores = {0: [3.0, 2.0, 1.0], 1: [3.0, 1.0, 2.0]}
    write(
        lake,
        run,
        predictions=[prediction(run_id, k, name, [0.0, -2.0]) for k in (0, 1) for name in names],
        attributions=[
            attribution(run_id, k, name, [4 - x for x in given] if k * (i % 2) else given, seed=s)
            for k in (0, 1)
            for s, given in scores.items()
            for i, name in enumerate(names)
        ],
        deletions=[
            deletion(run_id, k, name, 0.5, drop, method=method)
            for k in (0, 1)
            for i, name in enumerate(names)
            for method, drop in (("lime", 0.25 + 0.125 * (i % 2)), ("random", 0.125))
        ],
        bounds=[bound(run_id, k, name, lower=0.0, upper=0.5) for k in (0, 1) for name in names],
    )


def alike_run(lake: Path) -> None:
    """The ten top tokens are 0 to 9, 1 to 10 and 10 to 19."""
    run = run_row("alike", task="alike", levels=[0, 1, 2])
    run_id = str(run["run_id"])
    first = {0: 0, 1: 1, 2: 10}
    write(
        lake,
        run,
        predictions=[prediction(run_id, level, "test:0", [0.0, -2.0]) for level in first],
        attributions=[
            attribution(run_id, k, "test:0", [float(start <= i < start + 10) for i in range(20)])
            for k, start in first.items()
        ],
    )


def pooled_run(lake: Path, name: str) -> None:
    """A published table, of accuracy and ECE at three levels."""
    run = run_row(name, model=name, strategy="", levels=[0, 1, 2], example_count=0)
    cell = {"run_id": run["run_id"], **dict.fromkeys(("method", "operator", "variant"), "")}
    write(
        lake,
        run,
        reported=[
            cell | {"level": level, "metric": metric, "value": value}
            for metric, values in zip(("accuracy", "ece"), POOLED[name], strict=True)
            for level, value in enumerate(values)
        ],
    )
