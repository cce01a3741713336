"""The title of a metric's axis: its unit, and the better direction."""

from prunelake.schema.metrics import METRIC_DEFINITIONS

from ..findings.wording import label


def capitalised_label(metric: str) -> str:
    """A metric's label with a capital letter, for the start of a line."""
    name = label(metric)
    return name[:1].upper() + name[1:]


def direction(metric: str) -> str:
    """The better direction; empty for accuracy, and for metrics without a direction."""
    better = METRIC_DEFINITIONS[metric].higher_is_better
    if better is None or metric == "accuracy":
        return ""
    return f"{'higher' if better else 'lower'} is better"


def axis_title(metric: str) -> str:
    """The unit of a metric, and the better direction."""
    return ", ".join(filter(None, [METRIC_DEFINITIONS[metric].unit, direction(metric)]))
