"""Random predictions and explanations of one run, and the analysis of it by metric key."""

from pathlib import Path
from typing import Any

import numpy as np

from prunelake.lake.read import read_table
from prunelake.schema.table import METRIC_KEY
from tests.support.runs.lake_rows import attribution, deletion, example, prediction, run_row

RUN = run_row("run", levels=[0, 1, 2])
R = str(RUN["run_id"])
Key = tuple[Any, ...]
Rows = list[dict[str, Any]]

TOKENS = 12


def drawn_predictions(
    seed: int = 0, n: int = 30, levels: tuple[int, ...] = (0, 1, 2), shift: float = 0.3
) -> Rows:
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(n, 3))
    gold = generator.integers(3, size=n)
    return [
        prediction(R, level, f"test:{i}", row.tolist(), int(gold[i]))
        for level in levels
        for i, row in enumerate(base + shift * level * generator.normal(size=(n, 3)))
    ]


def drawn_explanations(seed: int = 0, n: int = 8) -> dict[str, Rows]:
    generator = np.random.default_rng(seed)
    keys = [
        (level, f"test:{i}", method, draw)
        for level in (0, 1, 2)
        for i in range(n)
        for method in ("lime", "kernel_shap", "random")
        for draw in (0, 1)
    ]
    return {
        "examples": [
            example(R, f"test:{i}", position=i, prompt_tokens=["t"] * TOKENS) for i in range(n)
        ],
        "attributions": [
            attribution(R, level, name, scores.round(1).tolist(), method, draw)
            for (level, name, method, draw), scores in zip(
                keys, generator.normal(size=(len(keys), TOKENS)), strict=True
            )
        ],
        "deletions": [
            deletion(
                R,
                level,
                name,
                fraction,
                float(generator.normal()) / 5,
                **{"method": method, "seed": draw, "operator": operator, "kind": kind},
            )
            for level, name, method, draw in keys
            for operator in ("delete_text", "replace")
            for kind in ("comprehensiveness", "sufficiency")
            for fraction in (0.1, 0.3)
        ],
    }


def by_key(lake: Path, table: str = "metrics") -> dict[Key, dict[str, Any]]:
    rows = read_table(lake, table).to_dicts()
    last = "level" if table == "metrics" else "scope"
    keyed = {(*(row[name] for name in METRIC_KEY), row[last]): row for row in rows}
    assert len(keyed) == len(rows)
    return keyed
