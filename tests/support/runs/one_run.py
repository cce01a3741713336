"""One run, and rows of it with simple values."""

import math
from pathlib import Path
from typing import Any

from tests.support.runs.lake_rows import deletion, rows_of, run_row, write_raw

RUN = run_row("run")
R = str(RUN["run_id"])

# Log-likelihoods of three options with simple probabilities.
LN2 = math.log(2)
HALF = [0.0, -LN2, -LN2]  # 1/2, 1/4, 1/4
SECOND = [-LN2, 0.0, -LN2]  # 1/4, 1/2, 1/4
SURE = [0.0, -1e4, -1e4]  # 1, 0, 0

UP, DOWN = [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]
"""The scores of three tokens, in opposite orders."""


def predicted(folder: Path, predictions: list[dict[str, Any]]) -> Path:
    """A lake with these predictions of the run."""
    write_raw(folder, RUN, predictions=predictions)
    return folder


def curve(drops: list[float], **columns: Any) -> list[dict[str, Any]]:
    """A deletion curve, of example `a` at level 0 by default."""
    place: dict[str, Any] = {"level": 0, "example_id": "a"} | columns
    return [deletion(R, fraction=(i + 1) / 10, drop=drop, **place) for i, drop in enumerate(drops)]


def areas(lake: Path) -> list[dict[str, Any]]:
    """The areas of one curve, by variant."""
    return rows_of(lake, "select * exclude (model, strategy, task) from aopc order by variant")
