"""The names of calibrators, and of the metrics that are measured after recalibration."""

from collections.abc import Mapping

PARAMETER_NAMES: Mapping[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "affine": ("slope", "intercept"),
    "isotonic": ("confidence", "calibrated"),
    "beta": ("a", "b", "c"),
    "histogram": ("edges", "calibrated"),
}
"""The parameters of each kind: numbers, or lists of numbers for isotonic and histogram."""

CALIBRATOR_KINDS = tuple(PARAMETER_NAMES)

UNPRUNED_TEMPERATURE = "unpruned_temperature"
"""The temperature that is fitted to the unpruned model and applied to every level."""

CALIBRATOR_NAMES = (*CALIBRATOR_KINDS, UNPRUNED_TEMPERATURE)

RANKING_METRICS = ("auroc", "aurc")
OPTION_METRICS = ("brier", "nll")
RECALIBRATED_METRICS = (
    "ece",
    "ece_debiased",
    "smooth_ece",
    "top_label_brier",
    *RANKING_METRICS,
    *OPTION_METRICS,
)
