"""Given rows of `queries.levels`, and a run with explanations for what reads a whole lake."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tests import lake_rows

LOWER_IS_BETTER = ("ece", "sufficiency", "flip_rate")

SCHEMA = {
    "level": pl.Int32(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "n": pl.Int64(),
    "unpruned_value": pl.Float64(),
    "delta": pl.Float64(),
    "is_worse": pl.Boolean(),
    "random_value": pl.Float64(),
}

Values = Mapping[int, float | None]


def levels(n: int = 80, explained: int = 10, **metrics: Values) -> pl.DataFrame:
    """Rows of each metric's values by level; `random_<metric>` gives its random ranking."""
    rows: list[dict[str, Any]] = []
    for metric, values in metrics.items():
        if metric.startswith("random_"):
            continue
        unpruned = values.get(0)
        for level, value in values.items():
            delta = value - unpruned if value is not None and unpruned is not None else None
            is_worse = None
            if delta is not None and metric != "mean_confidence":
                is_worse = delta > 0 if metric in LOWER_IS_BETTER else delta < 0
            rows.append(
                {
                    "level": level,
                    "metric": metric,
                    "value": value,
                    "n": explained if metric in ("comprehensiveness", "sufficiency") else n,
                    "unpruned_value": unpruned,
                    "delta": delta,
                    "is_worse": is_worse,
                    "random_value": metrics.get(f"random_{metric}", {}).get(level),
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def explained_run(
    lake: Path,
    name: str = "run",
    drops: Mapping[tuple[str, str], float] = {("kernel_shap", "delete_text"): 0.5},  # a constant
    **columns: Any,
) -> str:
    """A run of four examples at levels 0, 1, 2, of which the first two are explained.

    `drops` has the comprehensiveness at level 0 by method and operator, the only fractions being
    0.1 and 0.2; a level takes off 0.125. Sufficiency is 0.25 throughout. Accuracy is 0.75, 0.75
    and 0.5.
    """
    run = lake_rows.run_row(
        name, **{"levels": [0, 1, 2], "example_count": 4, "layer_count": 2} | columns
    )
    run_id = str(run["run_id"])
    names = [f"test:{i}" for i in range(4)]
    wrong = {0: 1, 1: 1, 2: 2}
    return lake_rows.write(
        lake,
        run,
        layers=[
            lake_rows.layer(run_id, 0, 0.5, 1),
            lake_rows.layer(run_id, 1, 0.25, 0),
        ],
        examples=[
            lake_rows.example(run_id, name, position=i, gold=int(i == 3))
            for i, name in enumerate(names)
        ],
        predictions=[
            lake_rows.prediction(
                run_id,
                level,
                name,
                [-2.0 - level, -1.0] if (i < wrong[level]) != (i == 3) else [-1.0, -2.0 - level],
                gold=int(i == 3),
            )
            for level in wrong
            for i, name in enumerate(names)
        ],
        attributions=[
            lake_rows.attribution(run_id, level, name, [0.5, -0.25 * level, 0.1], method=method)
            for level in wrong
            for name in names[:2]
            for method in sorted({method for method, _ in drops})
        ],
        deletions=[
            lake_rows.deletion(
                run_id,
                level,
                name,
                fraction,
                drop - 0.125 * level if kind == "comprehensiveness" else 0.25,
                method=method,
                operator=operator,
                kind=kind,
            )
            for level in wrong
            for name in names[:2]
            for (method, operator), drop in drops.items()
            for kind in ("comprehensiveness", "sufficiency")
            for fraction in (0.1, 0.2)
        ],
    )
