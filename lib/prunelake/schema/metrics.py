"""The metrics of a level: name, range, direction and margin."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_MARGIN = 0.02
"""The margin of metrics that declare no other: a convention for scores between 0 and 1."""


@dataclass(frozen=True)
class MetricDefinition:
    """One metric of a level.

    `higher_is_better` is None if neither direction is better. Values lie in [`low`, `high`].
    `is_tested` is false for a metric that already compares a level with level 0: it is constant at
    level 0, so a test against that constant would mean nothing. A change smaller than `margin`, in
    the unit of the metric, counts as no change (equivalence).
    """

    higher_is_better: bool | None
    low: float = 0.0
    high: float = 1.0
    is_tested: bool = True
    margin: float = DEFAULT_MARGIN


METRIC_DEFINITIONS: Mapping[str, MetricDefinition] = {
    "accuracy": MetricDefinition(True),
    "accuracy_norm": MetricDefinition(True),
    "ece": MetricDefinition(False),
    "ece_debiased": MetricDefinition(False, low=-1.0),  # the subtracted bias may exceed the rest
    "smooth_ece": MetricDefinition(False),
    "brier": MetricDefinition(False, high=2.0),
    "top_label_brier": MetricDefinition(False),
    "brier_calibration": MetricDefinition(False),
    "brier_refinement": MetricDefinition(False),
    "nll": MetricDefinition(False, high=math.inf),
    "mean_confidence": MetricDefinition(None),
    "auroc": MetricDefinition(True),
    "aurc": MetricDefinition(False),
    "flip_rate": MetricDefinition(False, is_tested=False),
    "harmful_flip_rate": MetricDefinition(False, is_tested=False),
    "beneficial_flip_rate": MetricDefinition(True, is_tested=False),
    "kl_from_unpruned": MetricDefinition(False, high=math.inf, is_tested=False),
    "comprehensiveness": MetricDefinition(True, low=-1.0),
    "sufficiency": MetricDefinition(False, low=-1.0),
    "comprehensiveness_advantage": MetricDefinition(True, low=-2.0, high=2.0),
    "sufficiency_advantage": MetricDefinition(True, low=-2.0, high=2.0),
    "overlap_5": MetricDefinition(True, is_tested=False),
    "overlap_10": MetricDefinition(True, is_tested=False),
    "overlap_20": MetricDefinition(True, is_tested=False),
    "attribution_spearman": MetricDefinition(True, low=-1.0, is_tested=False),
    "cross_overlap_10": MetricDefinition(True),
    "cross_spearman": MetricDefinition(True, low=-1.0),
    "seed_overlap_10": MetricDefinition(True),
    "seed_spearman": MetricDefinition(True, low=-1.0),
}


ACCURACY_MARGIN = METRIC_DEFINITIONS["accuracy"].margin
"""Accuracy is stable at a level if two one-sided tests at 5 % place its change within this."""


def value_range(metric: str, variant: str) -> tuple[float, float]:
    """The range of a metric in one variant.

    A normalised AOPC is unbounded, because the bounds that it is divided by are only estimates.

    Raises:
        KeyError: no such metric.
    """
    if variant == "normalised":
        return -math.inf, math.inf
    return METRIC_DEFINITIONS[metric].low, METRIC_DEFINITIONS[metric].high
