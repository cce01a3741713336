"""Rows of lake.metrics to be judged, and the verdicts on them."""

from pathlib import Path
from typing import Any

from prunelake.lake.commit import write_analysis, write_run
from tests.support.runs.lake_rows import frames, rows_of, run_row, small_analysis

Row = dict[str, Any]

CLOSE, FAR = (-0.01, 0.005), (-0.05, 0.005)  # 90 % intervals within and beyond the margin
FALLEN = -0.2, -0.1


def metric(
    name: str = "ece",
    delta: float | None = 0.05,
    p: float | None = 0.001,
    equivalence: tuple[float, float] | None = (0.03, 0.07),
    **columns: Any,
) -> Row:
    """A row of lake.metrics at level 1, by default of a metric that is worse."""
    low, high = equivalence or (None, None)
    return {
        "level": 1,
        "metric": name,
        "method": "",
        "operator": "",
        "variant": "",
        "higher_is_better": name == "accuracy",
        "is_tested": True,
        "delta": delta,
        "delta_se": None if delta is None else 0.01,
        "equivalence_low": low,
        "equivalence_high": high,
        "p_value": p,
        "paired_n": 100,
    } | columns


def accuracy(
    delta: float | None = -0.001,
    p: float | None = 0.9,
    equivalence: tuple[float, float] | None = CLOSE,
    **columns: Any,
) -> Row:
    """A row of accuracy, by default stable."""
    return metric("accuracy", delta, p, equivalence, **columns)


def judged(lake: Path, *rows: Row, name: str = "run", sql: str = "from verdicts") -> list[Row]:
    """Write a run with these metrics into a lake; return the answer to a query."""
    run = run_row(name)
    run_id = str(run["run_id"])
    write_run(lake, run, frames())
    about, derived = small_analysis(run_id)
    table = derived["metrics"].clear()
    given = [dict.fromkeys(table.schema) | row | {"run_id": run_id} for row in rows]
    write_analysis(lake, about, derived | {"metrics": type(table)(given, schema=table.schema)})
    return rows_of(lake, sql)


STABLE = accuracy()
UNSURE = accuracy(-0.01, 0.4, FAR)
DOWN = accuracy(-0.15, 1e-4, FALLEN)
UP = accuracy(0.15, 1e-4, (0.1, 0.2))
DOWN_A_LITTLE = accuracy(-0.01, 1e-4, (-0.012, -0.008))
UNKNOWN = accuracy(None, None, None, paired_n=0, note="no example could be scored")

WORSE = metric()
BETTER = metric(delta=-0.05, equivalence=(-0.07, -0.03))
SAME = metric(delta=0.001, p=0.8, equivalence=CLOSE)
OPEN = metric(delta=0.01, p=0.3, equivalence=FAR)
WORSE_A_LITTLE = metric(delta=0.01, equivalence=(0.005, 0.015))
PERHAPS_WORSE_A_LITTLE = metric(delta=0.012, equivalence=(0.003, 0.021))
BETTER_A_LITTLE = metric(delta=-0.01, equivalence=(-0.015, -0.005))
LOST = metric(delta=None, p=None, equivalence=None, paired_n=0, note="no example could be scored")
MISSED = "a difference up to smallest_detectable could have been missed"
NEITHER = "worse, but accuracy is neither stable nor fallen"
NO_EXAMPLE = "no example could be scored"
