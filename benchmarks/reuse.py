"""The forward tokens of a grown sweep, compared with the same sweep in an empty lake.

    PRUNELAKE_DATA=data OMP_NUM_THREADS=1 python -m benchmarks.reuse

Each step asks for more than the previous step, in one lake. Some steps are swept again, each in an
empty lake, and the rows of both runs are compared.
"""

import argparse
import platform
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from prunelake.lake import read
from prunelake.schema.run_tables import CELL_TABLES
from prunelake.settings import Settings
from prunelake.spec import Explanation, Rows, Strategy, SweepSpec
from prunelake.sweeps.executor import LocalExecutor
from prunelake.sweeps.run import run_sweep

Step = tuple[str, dict[str, Any], bool]
"""Its name, the changed fields of the spec, and whether it is compared with a direct run."""


def prediction_steps(rows: int) -> list[Step]:
    return [
        (f"`sample:{rows}`", {"rows": Rows(sample=rows)}, False),
        (f"`sample:{2 * rows}`", {"rows": Rows(sample=2 * rows)}, True),
    ]


def explanation_steps(rows: int, explained: int) -> list[Step]:
    def explain(**fields: Any) -> dict[str, Any]:
        settings = {"methods": ("leverage_shap",), "rows": 2 * explained, "levels": (0, 4)} | fields
        return {"explain": Explanation.model_validate(settings)}

    sample = {"rows": Rows(sample=rows)}
    two_methods = {"methods": ("difference_shap", "leverage_shap")}
    deeper = {"levels": (0, 4, 8)}
    final = explain(**two_methods, **deeper, seeds=(0, 1))
    return [
        (f"`sample:{rows}`", sample, False),
        (f"{explained} rows explained", explain(rows=explained), False),
        (f"{2 * explained} rows explained", explain(), True),
        ("level 8 as well", explain(**deeper) | deeper, False),
        ("`difference_shap` as well", explain(**two_methods, **deeper), False),
        ("seed 1 as well", final, True),
        ("strategy `last`", {"strategy": Strategy(name="last")}, False),
    ]


def swept(spec: SweepSpec, lake: Path) -> tuple[int, dict[str, pl.DataFrame]]:
    """The forward tokens and the cells of a sweep."""
    run_id = run_sweep(spec, Settings(lake=lake), LocalExecutor(print))
    (tokens,) = read.read_table(lake, "runs", [run_id])["forward_tokens"]
    return tokens, {t.name: read.read_table(lake, t.name, [run_id]) for t in CELL_TABLES}


def difference(found: Mapping[str, pl.DataFrame], direct: Mapping[str, pl.DataFrame]) -> str:
    """The number of differing predictions and the largest differences of numbers of two runs."""
    parts = []
    numbers = {
        "predictions": ("option_log_likelihoods", "log-likelihoods"),
        "attributions": ("scores", "scores"),
        "deletions": ("probability_perturbed", "perturbed probabilities"),
    }
    for table in CELL_TABLES:
        if table.name not in numbers:
            continue
        column, label = numbers[table.name]
        rows, others = found[table.name], direct[table.name]
        assert rows.select(table.key).equals(others.select(table.key))
        if table.name == "predictions":
            parts.append(f"{(rows['prediction'] != others['prediction']).sum()} predictions")
        if not rows.is_empty():
            pair = (frame[column].explode(empty_as_null=False) for frame in (rows, others))
            largest = np.abs(np.subtract(*(series.to_numpy() for series in pair))).max()
            parts.append(f"{label} by at most {largest:.1g}")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--explain-rows", type=int, default=8)
    asked = parser.parse_args()
    started = datetime.now(UTC)
    lines = []
    for task, steps in (
        ("arc_easy", prediction_steps(asked.rows)),
        ("everyday_knowledge", explanation_steps(asked.rows // 2, asked.explain_rows)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            spec = SweepSpec(task=task, levels=(0, 4), explain=None)
            for name, changes, is_compared in steps:
                spec = spec.model_copy(update=changes)
                tokens, cells = swept(spec, Path(folder, "grown"))
                direct, differs = "", ""
                if is_compared:
                    direct_tokens, direct_cells = swept(spec, Path(folder, f"direct-{name}"))
                    direct, differs = f"{direct_tokens:,}", difference(cells, direct_cells)
                lines.append(f"| {task} | {name} | {tokens:,} | {direct} | {differs} |")
                print(lines[-1], flush=True)
    machine = f"{platform.machine()}, float32, started {started:%Y-%m-%d %H:%M} UTC"
    print(f"\n`python -m benchmarks.reuse`, SmolLM2-135M on {machine}.\n")
    print("| task | step | forward tokens | in an empty lake | differs from that |")
    print("|---|---|---:|---:|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
