"""The metrics of a level: name, label, unit, direction, range and margin."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_MARGIN = 0.02
"""The margin of metrics that declare no other: a convention for scores between 0 and 1."""

FLIP_MARGIN = 0.05
"""The margin of `flip_rate`: one answer in twenty. Stable accuracy alone allows a flip rate of any
size, because harmful and beneficial flips cancel."""

FLIP_RATES = ("flip_rate", "harmful_flip_rate", "beneficial_flip_rate")
"""The shares of examples that are 0 at level 0 by definition: counts with exact intervals."""

FAITHFULNESS_METRICS = ("comprehensiveness", "sufficiency")
"""The metrics of explanations on which verdicts, plans and recommendations rest."""

AOPC_METRICS = (
    *FAITHFULNESS_METRICS,
    "comprehensiveness_advantage",
    "sufficiency_advantage",
)
"""The metrics of deletion curves: they have a method, an operator and a variant."""

BASELINE_AGREEMENT_METRICS = (
    *("overlap_5", "overlap_10", "overlap_20", "attribution_spearman"),
    *("cross_overlap_10", "cross_spearman"),
)
"""The metrics that compare attributions with those of level 0, token by token."""

AGREEMENT_METRICS = (*BASELINE_AGREEMENT_METRICS, "seed_overlap_10", "seed_spearman")
"""The metrics that compare attributions: they have a method."""

TOKEN_METRICS = ("perplexity", "generation_agreement")
"""The metrics of texts that count tokens, so that only equal tokens compare."""

PERPLEXITY_MARGIN = 1.0
"""The margin of `perplexity`: before each token, the model chooses among one more equally likely
token."""

EXPLANATION_METRICS = (*AOPC_METRICS, *AGREEMENT_METRICS)
"""The metrics that need explanations."""


@dataclass(frozen=True)
class MetricDefinition:
    """One metric of a level.

    `label` is the name in sentences, `unit` the scale on an axis. `higher_is_better` is None if
    neither direction is better. Values lie in [`low`, `high`]. `is_tested` is false for a metric
    that already compares a level with level 0: it is constant at level 0, so a test against that
    constant would mean nothing. `is_tested_at_margin` is true for a share of examples that is 0 at
    level 0 by definition: the test asks whether it exceeds `margin`, not whether it exceeds 0.
    `covers_all_predictions` is true for the mean of a value that every scored prediction has: such
    a metric has a row in every run, even if no example could be scored. `needs` names the data that
    a prediction must have besides its option, so that the metric has a value. A change smaller than
    `margin`, in the unit of the metric, counts as no change (equivalence).
    """

    label: str
    unit: str
    higher_is_better: bool | None
    low: float = 0.0
    high: float = 1.0
    is_tested: bool = True
    is_tested_at_margin: bool = False
    covers_all_predictions: bool = False
    needs: str | None = None
    margin: float = DEFAULT_MARGIN


CONFIDENCE = "a confidence"
LOG_LIKELIHOODS = "the log-likelihoods of all options"

METRIC_DEFINITIONS: Mapping[str, MetricDefinition] = {
    "accuracy": MetricDefinition(
        "accuracy", "share correct", higher_is_better=True, covers_all_predictions=True
    ),
    "accuracy_norm": MetricDefinition(
        "accuracy per byte",
        "share correct",
        higher_is_better=True,
        covers_all_predictions=True,
        needs=LOG_LIKELIHOODS,
    ),
    "ece": MetricDefinition("ECE", "0 to 1", higher_is_better=False, needs=CONFIDENCE),
    # The subtracted bias may exceed the rest.
    "ece_debiased": MetricDefinition(
        "debiased ECE", "at most 1", higher_is_better=False, low=-1.0, needs=CONFIDENCE
    ),
    "smooth_ece": MetricDefinition(
        "smooth ECE", "0 to 1", higher_is_better=False, needs=CONFIDENCE
    ),
    "brier": MetricDefinition(
        "Brier score",
        "0 to 2",
        higher_is_better=False,
        high=2.0,
        covers_all_predictions=True,
        needs=LOG_LIKELIHOODS,
    ),
    "top_label_brier": MetricDefinition(
        "top-label Brier score", "0 to 1", higher_is_better=False, needs=CONFIDENCE
    ),
    "brier_calibration": MetricDefinition(
        "Brier calibration", "0 to 1", higher_is_better=False, needs=CONFIDENCE
    ),
    "brier_refinement": MetricDefinition(
        "Brier refinement", "0 to 1", higher_is_better=False, needs=CONFIDENCE
    ),
    "nll": MetricDefinition(
        "NLL",
        "nats to the right option",
        higher_is_better=False,
        high=math.inf,
        covers_all_predictions=True,
        needs=LOG_LIKELIHOODS,
    ),
    "mean_confidence": MetricDefinition(
        "mean confidence",
        "probability of the predicted option",
        higher_is_better=None,
        covers_all_predictions=True,
        needs=CONFIDENCE,
    ),
    "auroc": MetricDefinition(
        "AUROC of confidence", "0 to 1, 0.5 by chance", higher_is_better=True, needs=CONFIDENCE
    ),
    "aurc": MetricDefinition(
        "AURC", "error rate, 0 to 1", higher_is_better=False, needs=CONFIDENCE
    ),
    "flip_rate": MetricDefinition(
        "flip rate",
        "share of predictions changed",
        higher_is_better=False,
        is_tested_at_margin=True,
        covers_all_predictions=True,
        margin=FLIP_MARGIN,
    ),
    "harmful_flip_rate": MetricDefinition(
        "harmful flip rate",
        "share turned wrong",
        higher_is_better=False,
        is_tested=False,
        covers_all_predictions=True,
    ),
    "beneficial_flip_rate": MetricDefinition(
        "beneficial flip rate",
        "share turned right",
        higher_is_better=True,
        is_tested=False,
        covers_all_predictions=True,
    ),
    "kl_from_unpruned": MetricDefinition(
        "KL from unpruned",
        "nats",
        higher_is_better=False,
        high=math.inf,
        is_tested=False,
        covers_all_predictions=True,
        needs=LOG_LIKELIHOODS,
    ),
    "perplexity": MetricDefinition(
        "perplexity",
        "equally likely next tokens",
        higher_is_better=False,
        low=1.0,
        high=math.inf,
        margin=PERPLEXITY_MARGIN,
    ),
    "repetition": MetricDefinition(
        "repetition", "share of 4-grams repeated", higher_is_better=False
    ),
    "generation_agreement": MetricDefinition(
        "agreement of generated text",
        "share kept from unpruned",
        higher_is_better=True,
        is_tested=False,
    ),
    "comprehensiveness": MetricDefinition(
        "comprehensiveness", "probability lost", higher_is_better=True, low=-1.0
    ),
    "sufficiency": MetricDefinition(
        "sufficiency", "probability lost", higher_is_better=False, low=-1.0
    ),
    "comprehensiveness_advantage": MetricDefinition(
        "comprehensiveness over random", "probability", higher_is_better=True, low=-2.0, high=2.0
    ),
    "sufficiency_advantage": MetricDefinition(
        "sufficiency over random", "probability", higher_is_better=True, low=-2.0, high=2.0
    ),
    "overlap_5": MetricDefinition(
        "overlap of top 5 tokens",
        "share kept from unpruned",
        higher_is_better=True,
        is_tested=False,
    ),
    "overlap_10": MetricDefinition(
        "overlap of top 10 tokens",
        "share kept from unpruned",
        higher_is_better=True,
        is_tested=False,
    ),
    "overlap_20": MetricDefinition(
        "overlap of top 20 tokens",
        "share kept from unpruned",
        higher_is_better=True,
        is_tested=False,
    ),
    "attribution_spearman": MetricDefinition(
        "attribution rank correlation",
        "with unpruned, \N{MINUS SIGN}1 to 1",
        higher_is_better=True,
        low=-1.0,
        is_tested=False,
    ),
    "cross_overlap_10": MetricDefinition(
        "overlap of top 10 tokens across seeds", "share kept from unpruned", higher_is_better=True
    ),
    "cross_spearman": MetricDefinition(
        "rank correlation across seeds",
        "with unpruned, \N{MINUS SIGN}1 to 1",
        higher_is_better=True,
        low=-1.0,
    ),
    "seed_overlap_10": MetricDefinition(
        "overlap of top 10 tokens among seeds", "share in common", higher_is_better=True
    ),
    "seed_spearman": MetricDefinition(
        "rank correlation among seeds", "\N{MINUS SIGN}1 to 1", higher_is_better=True, low=-1.0
    ),
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
