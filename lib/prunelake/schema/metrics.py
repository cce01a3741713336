"""What is measured at every level: the name of each metric, its range, and which way is better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric of a level.

    `higher_is_better` is None where neither direction is. The value lies in [`low`, `high`].
    `is_tested` is false where the metric compares a level with the unpruned model
    by itself: at level 0 it is a constant, and any difference from that is no finding.
    """

    higher_is_better: bool | None
    low: float = 0.0
    high: float = 1.0
    is_tested: bool = True


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(True),
    "accuracy_norm": Metric(True),
    "ece": Metric(False),
    "ece_debiased": Metric(False, low=-1.0),  # what is taken off may exceed the rest
    "smooth_ece": Metric(False),
    "brier": Metric(False, high=2.0),
    "top_label_brier": Metric(False),
    "brier_calibration": Metric(False),
    "brier_refinement": Metric(False),
    "nll": Metric(False, high=math.inf),
    "mean_confidence": Metric(None),
    "auroc": Metric(True),
    "aurc": Metric(False),
    "flip_rate": Metric(False, is_tested=False),
    "harmful_flip_rate": Metric(False, is_tested=False),
    "beneficial_flip_rate": Metric(True, is_tested=False),
    "kl_from_unpruned": Metric(False, high=math.inf, is_tested=False),
    "comprehensiveness": Metric(True, low=-1.0),
    "sufficiency": Metric(False, low=-1.0),
    "comprehensiveness_advantage": Metric(True, low=-2.0, high=2.0),
    "sufficiency_advantage": Metric(True, low=-2.0, high=2.0),
    "overlap_5": Metric(True, is_tested=False),
    "overlap_10": Metric(True, is_tested=False),
    "overlap_20": Metric(True, is_tested=False),
    "attribution_spearman": Metric(True, low=-1.0, is_tested=False),
    "cross_overlap_10": Metric(True),
    "cross_spearman": Metric(True, low=-1.0),
    "seed_overlap_10": Metric(True),
    "seed_spearman": Metric(True, low=-1.0),
}


def bounds(metric: str, variant: str) -> tuple[float, float]:
    """The range of a metric in one variant: a normalised AOPC has none, as its bounds are searched.

    Raises:
        KeyError: no such metric.
    """
    if variant == "normalised":
        return -math.inf, math.inf
    return METRICS[metric].low, METRICS[metric].high
