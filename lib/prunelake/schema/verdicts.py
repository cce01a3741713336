"""The verdicts on a metric at a removal level, as sql/comparisons/verdicts.sql gives them."""

from enum import StrEnum


class Verdict(StrEnum):
    """How a metric changed from level 0, worst first.

    `worse` is not in the view `verdicts`: tables and charts show it in place of `inconclusive` if
    the metric has changed for the worse (`is_shown_worse`), while accuracy is neither stable nor
    fallen.
    """

    hidden_degradation = "hidden degradation"
    visible_degradation = "visible degradation"
    worse = "worse"
    equivalent = "equivalent"
    improved = "improved"
    inconclusive = "inconclusive"
