"""The request for a recommendation: a model, its tasks, a budget and margins."""

from enum import StrEnum
from math import isfinite
from typing import Self

from prunelake.errors import InvalidRequest
from prunelake.recommend.budget import CostBudget
from prunelake.schema.metrics import DEFAULT_MARGIN
from prunelake.spec import FrozenValue

DEFAULT_CALIBRATOR = "temperature"


class Criterion(StrEnum):
    """A quality that a level must not lose."""

    accuracy = "accuracy"
    calibration = "calibration"
    comprehensiveness = "comprehensiveness"
    sufficiency = "sufficiency"


CRITERIA_PATTERN = rf"^(?:{'|'.join(Criterion)})(?:,(?:{'|'.join(Criterion)}))*$"
"""Criteria without spaces, for the schema of the API."""

EXPLANATION_CRITERIA = (Criterion.comprehensiveness, Criterion.sufficiency)


def parse_criteria(text: str | None) -> tuple[Criterion, ...]:
    """Parse criteria separated by commas; None gives all criteria.

        parse_criteria("accuracy,calibration")

    Raises:
        InvalidRequest: a name is not a criterion.
    """
    if text is None:
        return tuple(Criterion)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in tuple(Criterion):
            raise InvalidRequest(
                f"criterion {name!r}: choose some of {', '.join(Criterion)}", tuple(Criterion)
            )
    return tuple(criterion for criterion in Criterion if criterion in names)


class CalibrationMetric(StrEnum):
    """The metric of the criterion `calibration`."""

    ece = "ece"
    smooth_ece = "smooth_ece"
    brier = "brier"
    nll = "nll"


class Margins(FrozenValue):
    """The largest loss that is allowed for each criterion, in the unit of its metric."""

    accuracy: float = DEFAULT_MARGIN
    faithfulness: float = DEFAULT_MARGIN
    calibration: float = DEFAULT_MARGIN

    @classmethod
    def with_default(
        cls, margin: float, faithfulness: float | None = None, calibration: float | None = None
    ) -> Self:
        """The same margin for all criteria, except criteria with a margin of their own.

        Raises:
            InvalidRequest: a margin is not above 0, or not finite.
        """
        margins = {
            "accuracy": margin,
            "faithfulness": margin if faithfulness is None else faithfulness,
            "calibration": margin if calibration is None else calibration,
        }
        for name, value in margins.items():
            if not (isfinite(value) and value > 0):
                raise InvalidRequest(
                    f"margin of {name}: {value:g} is not above 0; {DEFAULT_MARGIN:g} is usual"
                )
        return cls(**margins)


class RecommendationRequest(FrozenValue):
    """A request for a recommendation.

        RecommendationRequest(model="SmolLM2-135M", budget=parse_budget("speedup>=1.2"))

    `model` is a model reference or its last part. Without `tasks`, all tasks of the model count.
    `calibrator` recalibrates the confidence for the second answer. `device` is the device on which
    the costs were measured; it may be omitted if there is only one.
    """

    model: str
    tasks: tuple[str, ...] = ()
    budget: CostBudget = CostBudget()
    margins: Margins = Margins()
    criteria: tuple[Criterion, ...] = tuple(Criterion)
    calibration: CalibrationMetric = CalibrationMetric.ece
    calibrator: str = DEFAULT_CALIBRATOR
    device: str | None = None
