"""The title of a metric's axis: its unit, and which direction is better."""

from prunelake.schema.metrics import METRIC_DEFINITIONS

from ..findings.wording import label

METRIC_UNITS = {
    "accuracy": "share correct",
    "accuracy_norm": "share correct",
    "ece": "0 to 1",
    "ece_debiased": "at most 1",
    "smooth_ece": "0 to 1",
    "brier": "0 to 2",
    "top_label_brier": "0 to 1",
    "brier_calibration": "0 to 1",
    "brier_refinement": "0 to 1",
    "nll": "nats to the right option",
    "mean_confidence": "probability of the predicted option",
    "auroc": "0 to 1, 0.5 by chance",
    "aurc": "error rate, 0 to 1",
    "flip_rate": "share of predictions changed",
    "harmful_flip_rate": "share turned wrong",
    "beneficial_flip_rate": "share turned right",
    "kl_from_unpruned": "nats",
    "comprehensiveness": "probability lost",
    "sufficiency": "probability lost",
    "comprehensiveness_advantage": "probability",
    "sufficiency_advantage": "probability",
    "overlap_5": "share kept from unpruned",
    "overlap_10": "share kept from unpruned",
    "overlap_20": "share kept from unpruned",
    "attribution_spearman": "with unpruned, \N{MINUS SIGN}1 to 1",
    "cross_overlap_10": "share kept from unpruned",
    "cross_spearman": "with unpruned, \N{MINUS SIGN}1 to 1",
    "seed_overlap_10": "share in common",
    "seed_spearman": "\N{MINUS SIGN}1 to 1",
}


def capitalised_label(metric: str) -> str:
    """A metric's label with a capital letter, for the start of a line."""
    name = label(metric)
    return name[:1].upper() + name[1:]


def direction(metric: str) -> str:
    """Which direction is better; empty for accuracy, and for metrics without a direction."""
    better = METRIC_DEFINITIONS[metric].higher_is_better
    if better is None or metric == "accuracy":
        return ""
    return f"{'higher' if better else 'lower'} is better"


def axis_title(metric: str) -> str:
    """The unit of a metric, and which direction is better."""
    return ", ".join(filter(None, [METRIC_UNITS[metric], direction(metric)]))
