"""What is measured at every level: the name of each metric, its range, and which way is better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_MARGIN = 0.02
"""The margin of every metric that declares no other. A convention for scores between 0 and 1."""


@dataclass(frozen=True)
class MetricDefinition:
    """One metric of a level.

    `higher_is_better` is None where neither direction is. The value lies in [`low`, `high`].
    `is_tested` is false where the metric compares a level with the unpruned model
    by itself: at level 0 it is a constant, and any difference from that is no finding. A change
    smaller than `margin`, in the unit of the metric, counts as no change (equivalence).
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
    "ece_debiased": MetricDefinition(False, low=-1.0),  # what is taken off may exceed the rest
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
    """The range of a metric in one variant: a normalised AOPC has none, as its bounds are searched.

    Raises:
        KeyError: no such metric.
    """
    if variant == "normalised":
        return -math.inf, math.inf
    return METRIC_DEFINITIONS[metric].low, METRIC_DEFINITIONS[metric].high
