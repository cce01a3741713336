"""The verdicts on a metric at a removal level, as sql/comparisons/verdicts.sql gives them."""

from enum import StrEnum

DEFAULT_POWER = 0.8
"""The probability of a right verdict that a plan aims for."""


class Verdict(StrEnum):
    """How a metric changed from level 0, worst first.

    `worse_within_margin`: the metric has changed for the worse, but by less than its margin.
    `worse` is not in the view `verdicts`: tables and charts show it in place of `inconclusive` if
    the metric is shown to be worse (`is_shown_worse`), while accuracy is shown neither to be stable
    nor to have fallen.
    """

    hidden_degradation = "hidden degradation"
    visible_degradation = "visible degradation"
    worse = "worse"
    worse_within_margin = "worse within margin"
    equivalent = "equivalent"
    improved = "improved"
    inconclusive = "inconclusive"
