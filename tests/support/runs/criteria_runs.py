"""Runs with given criteria, for code that reads tests and not examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from prunelake.analysis.statistics import paired_t_p_value
from prunelake.lake.commit import write_analysis, write_run
from prunelake.schema.analysis_tables import ANALYSIS_TABLES
from tests.support.runs.lake_rows import frames, named_level, run_row, small_analysis

Loss = tuple[float, float] | None
"""The loss of a level and the half width of its 90 % interval; None if it is unknown.
"""

CRITERIA = ("accuracy", "ece", "comprehensiveness", "sufficiency")
PASSING: Loss = (0.0, 0.01)
UNPRUNED = 0.5
NORMAL_QUANTILE = 1.645

Levels = Mapping[int, Mapping[str, Loss]]


def compared_run(
    lake: Path,
    name: str,
    levels: Levels,
    n: int = 400,
    recalibrated: Mapping[int, Loss] | None = None,
    labels: Mapping[int, str] | None = None,
    sizes: Mapping[int, int | None] | None = None,
    **columns: Any,
) -> str:
    """A run of n examples with these losses by level and metric; all others are PASSING.

    Explanations are of kernel_shap, delete_text, eraser. `recalibrated` has the loss of ECE by
    level after recalibration by temperature. With `labels` the levels are candidates,
    of 400 bytes unless `sizes` has other sizes.
    """
    run = run_row(
        name,
        **{
            "levels": sorted({0, *levels}),
            "example_count": n,
            "layer_count": 8,
            "removal_order": [3, 1, 2, 0, 4, 5, 6, 7],
        }
        | columns,
    )
    run_id = str(run["run_id"])
    candidates = [
        named_level(run_id, level, label, weight_bytes=(sizes or {}).get(level, 400))
        for level, label in (labels or {}).items()
    ]
    write_run(lake, run, frames(levels=candidates))
    about, derived = small_analysis(run_id)
    empty = derived["metrics"].clear()
    unpruned: Levels = {0: {}}
    rows = [
        dict.fromkeys(empty.schema) | {"run_id": run_id} | row
        for level, losses in {**unpruned, **levels}.items()
        for row in _metrics(level, losses, n)
    ]
    metrics = type(empty)(rows, schema=empty.schema)
    again = ANALYSIS_TABLES["recalibrated"]
    fitted = [
        dict.fromkeys(again.schema) | {"run_id": run_id, "level": level} | _recalibrated(loss, n)
        for level, loss in (recalibrated or {}).items()
    ]
    frames_of = {"metrics": metrics, "recalibrated": again.frame(fitted)}
    write_analysis(lake, about, derived | frames_of)
    return run_id


def _recalibrated(loss: Loss, n: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "calibrator": "temperature",
        "metric": "ece",
        "higher_is_better": False,
        "n": n,
        "unpruned_value": UNPRUNED,
    }
    if loss is None:
        return row | {"unpruned_value": None, "note": "fewer than 20 examples"}
    changed = _difference(*loss, n, higher_is_better=False)
    del changed["paired_value"]  # a column of metrics only
    return row | changed


def _metrics(level: int, losses: Mapping[str, Loss], n: int) -> list[dict[str, Any]]:
    rows = []
    for metric in CRITERIA:
        is_explanation = metric in ("comprehensiveness", "sufficiency")
        row: dict[str, Any] = {
            "level": level,
            "metric": metric,
            "method": "kernel_shap" if is_explanation else "",
            "operator": "delete_text" if is_explanation else "",
            "variant": "eraser" if is_explanation else "",
            "higher_is_better": metric in ("accuracy", "comprehensiveness"),
            "is_tested": True,
            "n": n,
            "paired_n": n,
            "value": UNPRUNED,
            "unpruned_value": UNPRUNED,
            "paired_value": UNPRUNED,
        }
        loss = losses.get(metric, PASSING)
        if loss is None:
            missing = {"n": 0, "paired_n": 0, "value": None, "unpruned_value": None}
            rows.append(
                row | missing | {"paired_value": None, "note": "no example could be scored"}
            )
        elif level == 0:
            rows.append(row)
        else:
            rows.append(row | _difference(*loss, n, higher_is_better=row["higher_is_better"]))
            if metric == "accuracy":
                rows += [
                    row | {"metric": name, "is_tested": False, "value": rate, "paired_value": rate}
                    for name, rate in _flip_rates(*loss, n).items()
                ]
    return rows


def _flip_rates(loss: float, half: float, n: int) -> dict[str, float]:
    """The rates of flips with this loss of accuracy and about this half width of its interval."""
    discordant = max(abs(loss) * n, (half * n / NORMAL_QUANTILE) ** 2)
    lost, won = round((discordant + loss * n) / 2), round((discordant - loss * n) / 2)
    return {"harmful_flip_rate": lost / n, "beneficial_flip_rate": won / n}


def _difference(loss: float, half: float, n: int, higher_is_better: bool) -> dict[str, Any]:
    delta = -loss if higher_is_better else loss
    error = half / float(stdtrit(n - 1, 0.95))
    reach = float(stdtrit(n - 1, 0.975)) * error
    return {
        "value": UNPRUNED + delta,
        "paired_value": UNPRUNED + delta,
        "delta": delta,
        "delta_se": error,
        "delta_low": delta - reach,
        "delta_high": delta + reach,
        "equivalence_low": delta - half,
        "equivalence_high": delta + half,
        "p_value": paired_t_p_value(delta, error, n),
    }
