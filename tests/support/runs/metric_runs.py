"""A run of given metrics, for code that reads the analysis of a run and not its examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunelake.lake.commit import write_analysis, write_run
from tests.support.runs.lake_rows import frames, run_row, small_analysis

Values = Mapping[tuple[str, str], Mapping[int, float | None]]

DIRECTIONS = {"accuracy": True, "ece": False, "comprehensiveness": True, "mean_confidence": None}


def metric_run(lake: Path, name: str, values: Values, **columns: Any) -> str:
    """A run whose metrics are the values by (metric, method) and level; its run_id."""
    run = run_row(name, **columns)
    run_id = str(run["run_id"])
    write_run(lake, run, frames())
    about, derived = small_analysis(run_id)
    empty = derived["metrics"].clear()
    given = [
        dict.fromkeys(empty.schema)
        | {"run_id": run_id, "level": level, "metric": metric, "method": method}
        | {"operator": "", "variant": "", "is_tested": True, "value": value}
        | {"higher_is_better": DIRECTIONS[metric]}
        for (metric, method), by_level in values.items()
        for level, value in by_level.items()
    ]
    rows = type(empty)(given, schema=empty.schema)
    write_analysis(lake, about, derived | {"metrics": rows})
    return run_id
