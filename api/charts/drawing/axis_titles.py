"""The titles of axes: a metric's unit and its better direction, and the parts that levels count."""

from prunelake.schema.metrics import METRIC_DEFINITIONS

from ...findings.wording import counted_parts, label
from .vega_lite import Part


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


def count_parts(chart: Part, strategy: str) -> None:
    """Let the axes of a chart over levels name the parts that its levels count."""
    for inner in (*chart.get("layer", ()), *chart.get("vconcat", ())):
        count_parts(inner, strategy)
    for channel in ("x", "y"):
        axis = chart.get("encoding", {}).get(channel, {})
        title = axis.get("title")
        if isinstance(title, str) and title.startswith("removed layers"):
            axis["title"] = title.replace("layers", counted_parts(strategy))
