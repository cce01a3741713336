"""The rows that recalibration writes: metrics, calibrators and reliability bins."""

import numpy as np

from prunelake.analysis import calibration
from prunelake.analysis.bootstrap import BootstrappedMetric, undefined_reason
from prunelake.analysis.recalibration.cross_fitting import FOLD_COUNT, CrossFittedCalibrator
from prunelake.analysis.sequential import LookTimes
from prunelake.schema.arrays import FloatArray
from prunelake.schema.calibrators import UNPRUNED_TEMPERATURE
from prunelake.schema.metrics import METRIC_DEFINITIONS, value_range
from prunelake.schema.table import TableRow

TESTED_ELSEWHERE_NOTE = "recalibrated: tested in recalibration"


def recalibrated_columns(
    metric: str, after: BootstrappedMetric, change: BootstrappedMetric, looks: LookTimes
) -> TableRow:
    """The columns of a metric after recalibration.

    The baseline of `after` is level 0 before recalibration. The baseline of `change` is the same
    level before recalibration.
    """
    low, high = after.interval(*value_range(metric, ""))
    delta, gain = after.difference_at(looks), change.difference
    higher_is_better = METRIC_DEFINITIONS[metric].higher_is_better
    return {
        "value": after.value,
        "ci_low": low,
        "ci_high": high,
        "gain": gain.value if higher_is_better else -gain.value,
        "gain_low": gain.low if higher_is_better else -gain.high,
        "gain_high": gain.high if higher_is_better else -gain.low,
        "gain_p_value": gain.p_value,
        "paired_n": after.paired_n,
        "paired_value": after.paired_value,
        "unpruned_value": after.baseline_value,
        "delta": delta.value,
        "delta_se": delta.se,
        "delta_low": delta.low,
        "delta_high": delta.high,
        "equivalence_low": delta.equivalence_low,
        "equivalence_high": delta.equivalence_high,
        "p_value": delta.p_value,
        "note": undefined_reason(metric, after.value, after.n, after.estimate.se)
        or undefined_reason(metric, delta.value, after.paired_n, delta.se),
    }


def metric_row(row: TableRow) -> TableRow:
    """The row of `metrics` for a row of `recalibrated`; its variant is the calibrator."""
    names = (
        *("level", "metric", "higher_is_better", "value", "n", "ci_low", "ci_high", "paired_n"),
        *("paired_value", "unpruned_value", "delta", "delta_se", "delta_low", "delta_high"),
    )
    return {name: row[name] for name in names} | {
        "method": "",
        "operator": "",
        "variant": row["calibrator"],
        "is_tested": False,
        "note": row["note"] or TESTED_ELSEWHERE_NOTE,
    }


def calibrator_row(level: int, name: str, fit: CrossFittedCalibrator) -> TableRow:
    """The row of `calibrators` for a level: the fitted map and the rows it was fitted on."""
    source = " at level 0" if name == UNPRUNED_TEMPERATURE else ""
    return {
        "level": level,
        "calibrator": name,
        "parameters": None if fit.calibrator is None else fit.calibrator.to_json(),
        "fit": f"{FOLD_COUNT} folds of the run's own rows{source}",
        "fit_rows": fit.fit_rows,
        "note": fit.failure_reason,
    }


def reliability_bins(confidence: FloatArray, correct: FloatArray) -> list[TableRow]:
    """Confidence and accuracy in each bin of `calibration.equal_width_bins` that has examples."""
    known = ~np.isnan(confidence)
    confidence, correct = confidence[known], correct[known]
    bins = calibration.equal_width_bins(confidence)
    return [
        {
            "bin": int(bin_index),
            "n": int((bins == bin_index).sum()),
            "mean_confidence": float(confidence[bins == bin_index].mean()),
            "accuracy": float(correct[bins == bin_index].mean()),
        }
        for bin_index in np.unique(bins)
    ]
