"""Rows of `run_metrics.headline_metrics`, and runs for tests that read a whole lake."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from prunelake.lake.storage.location import Location
from tests.support.runs import lake_rows

SCHEMA = {
    "level": pl.Int32(),
    "label": pl.String(),
    "kind": pl.String(),
    "metric": pl.String(),
    "value": pl.Float64(),
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "n": pl.Int64(),
    "delta": pl.Float64(),
    "delta_low": pl.Float64(),
    "delta_high": pl.Float64(),
    "equivalence_low": pl.Float64(),
    "equivalence_high": pl.Float64(),
    "p_adjusted": pl.Float64(),
    "verdict": pl.String(),
    "smallest_detectable": pl.Float64(),
    "n_needed": pl.Int64(),
    "note": pl.String(),
    "random_value": pl.Float64(),
}

Values = Mapping[int, float | None]
Verdicts = Mapping[str, Mapping[int, str]]


def metric_rows(
    n: int | None = 80,
    explained: int | None = 10,
    verdicts: Verdicts | None = None,
    labels: Sequence[str] = (),
    **metrics: Any,
) -> pl.DataFrame:
    """Rows of each metric's values by level; `random_<metric>` gives its random ranking.

    The interval of a value reaches 0.05 to both sides; the interval of a change reaches 0.04, or
    0.03 at 90 %. `verdicts` has the verdicts of a metric by level; inconclusive tests could have
    missed 0.0625 and need 1,234 examples. Without n, as in published tables, there are no intervals
    and no verdicts. `labels` are the names of the baseline and the candidates of a comparison.
    """
    rows: list[dict[str, Any]] = []
    for metric, values in metrics.items():
        if metric.startswith("random_"):
            continue
        unpruned = values.get(0)
        for level, value in values.items():
            verdict = (verdicts or {}).get(metric, {}).get(level)
            row = dict.fromkeys(SCHEMA) | {"level": level, "metric": metric, "value": value}
            row["label"] = labels[level] if labels else str(level)
            row["kind"] = "candidate" if labels else "removal"
            row["verdict"] = verdict
            row["random_value"] = metrics.get(f"random_{metric}", {}).get(level)
            row["n"] = explained if metric in ("comprehensiveness", "sufficiency") else n
            if value is not None and unpruned is not None:
                row["delta"] = value - unpruned
            if n is not None and value is not None:
                row |= {"ci_low": value - 0.05, "ci_high": value + 0.05}
            if verdict is not None and row["delta"] is not None:
                delta = row["delta"]
                row |= {"delta_low": delta - 0.04, "delta_high": delta + 0.04}
                row |= {"equivalence_low": delta - 0.03, "equivalence_high": delta + 0.03}
                row["p_adjusted"] = 0.5 if verdict in ("equivalent", "inconclusive") else 0.0004
                row["smallest_detectable"] = 0.0625 if verdict == "inconclusive" else None
                row["n_needed"] = 1234 if verdict == "inconclusive" else None
            rows.append(row)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def explained_run(
    lake: Location,
    name: str = "run",
    drops: Mapping[tuple[str, str], float] = {("kernel_shap", "delete_text"): 0.5},  # a constant
    copies: int = 1,
    labels: Sequence[str] = (),
    **columns: Any,
) -> str:
    """A run of four examples at levels 0, 1, 2, of which the first two are explained.

    With three `labels` it is a comparison: level k has 400 / (k + 1) bytes of weights.


    `copies` repeats the examples, for example until they suffice for recalibration. `drops` has the
    comprehensiveness at level 0 by method and operator, for the fractions 0.1 and 0.2; each level
    reduces it by 0.125. Sufficiency is 0.25 at all levels. Accuracy is 0.75, 0.75 and 0.5.
    """
    if labels:
        columns |= {"strategy": "comparison", "removal_order": [], "layer_count": None}
    run = lake_rows.run_row(
        name, **{"levels": [0, 1, 2], "example_count": 4 * copies, "layer_count": 2} | columns
    )
    run_id = str(run["run_id"])
    names = [f"test:{i}" for i in range(4 * copies)]
    wrong = {0: 1, 1: 1, 2: 2}
    return lake_rows.write(
        lake,
        run,
        layers=[
            lake_rows.layer(run_id, 0, 0.5, 1),
            lake_rows.layer(run_id, 1, 0.25, 0),
        ]
        if not labels
        else [],
        levels=[
            lake_rows.named_level(run_id, level, label, weight_bytes=400 // (level + 1))
            for level, label in enumerate(labels)
        ],
        examples=[
            lake_rows.example(
                run_id,
                name,
                position=i,
                gold=int(i % 4 == 3),
                prompt=f"Is it {i}?" if copies > 1 else "Is it?",
            )
            for i, name in enumerate(names)
        ],
        predictions=[
            lake_rows.prediction(
                run_id,
                level,
                name,
                [-2.0 - level, -1.0]
                if (i % 4 < wrong[level]) != (i % 4 == 3)
                else [-1.0, -2.0 - level],
                gold=int(i % 4 == 3),
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


def published_run(lake: Location, name: str = "published", **columns: Any) -> str:
    """A run of a published table: five levels, explanations by lime with an unknown operator."""
    run = lake_rows.run_row(
        name, **{"levels": [0, 1, 2, 3, 4], "example_count": 0, "strategy": ""} | columns
    )
    values = {
        ("accuracy", ""): [0.75, 0.75, 0.5, 0.375, 0.25],
        ("ece", ""): [0.125, 0.25, 0.25, 0.375, 0.5],
        ("comprehensiveness", "lime"): [0.5, 0.375, 0.25, 0.25, 0.125],
    }
    return lake_rows.write(
        lake,
        run,
        reported=[
            {
                "run_id": run["run_id"],
                "level": level,
                "metric": metric,
                "method": method,
                "operator": "",
                "variant": "",
                "value": value,
            }
            for (metric, method), by_level in values.items()
            for level, value in enumerate(by_level)
        ],
    )


def judged_run(lake: Location, name: str = "judged", n: int = 400, **columns: Any) -> str:
    """A run of n examples and three levels with plain verdicts.

    Every eighth example is wrong at levels 0 and 1, every second example at level 2. Confidence is
    about 0.88 at level 0, near the accuracy, and 0.995 at level 1, so that ECE is worse there.
    """
    run = lake_rows.run_row(name, **{"levels": [0, 1, 2], "example_count": n} | columns)
    run_id = str(run["run_id"])
    sureness = {0: 1.95, 1: 5.3, 2: 5.3}
    wrong = {0: 8, 1: 8, 2: 2}
    return lake_rows.write(
        lake,
        run,
        predictions=[
            lake_rows.prediction(
                run_id,
                level,
                f"test:{i}",
                [-sureness[level], 0.0] if i % wrong[level] == 0 else [0.0, -sureness[level]],
            )
            for level in sureness
            for i in range(n)
        ],
    )
