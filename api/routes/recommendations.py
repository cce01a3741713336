"""GET /recommendations: how much to remove, and why not more."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from prunelake.recommend.budget import BUDGET_EXAMPLE, BUDGET_PATTERN, parse_budget
from prunelake.recommend.request import (
    CRITERIA_PATTERN,
    DEFAULT_CALIBRATOR,
    CalibrationMetric,
    Margins,
    RecommendationRequest,
    parse_criteria,
)
from prunelake.schema.metrics import DEFAULT_MARGIN

from ..findings.recommendations.advice import Advice, load_advice
from ..http.problems import ERROR_RESPONSES
from .parameters import SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["findings"], dependencies=[Depends(reject_repeated_parameters)]
)

Margin = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class RecommendationParameters(BaseModel):
    """The model, the budget and the margins of a recommendation."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        description="The whole reference of a model, or the last part of it.",
        examples=["SmolLM2-360M-Instruct"],
    )
    task: str | None = Field(
        default=None,
        description="One task, or several separated by commas; all evaluated tasks by default.",
        examples=["arc_easy"],
    )
    budget: str | None = Field(
        default=None,
        description="The budget: limits on costs, separated by commas.",
        examples=[BUDGET_EXAMPLE.replace(" ", "")],
        json_schema_extra={"pattern": BUDGET_PATTERN},
    )
    margin: Margin = Field(
        default=DEFAULT_MARGIN, description="The largest allowed loss for each criterion."
    )
    faithfulness_margin: Margin | None = Field(
        default=None, description="The margin of explanations, instead of `margin`."
    )
    calibration_margin: Margin | None = Field(
        default=None, description="The margin of calibration, instead of `margin`."
    )
    criteria: str | None = Field(
        default=None,
        description="The criteria, separated by commas: accuracy, calibration, comprehensiveness, "
        "sufficiency; all by default.",
        examples=["accuracy,calibration"],
        json_schema_extra={"pattern": CRITERIA_PATTERN},
    )
    calibration: CalibrationMetric = Field(
        default=CalibrationMetric.ece, description="The metric of calibration."
    )
    calibrator: str = Field(
        default=DEFAULT_CALIBRATOR, description="The calibrator of the second answer."
    )
    device: str | None = Field(
        default=None, description="The device whose costs count, if several were profiled."
    )


@router.get(
    "/recommendations",
    operation_id="get_recommendation",
    summary="How much to remove, and why not more",
)
def of_model(
    snapshot: SnapshotDependency, asked: Annotated[RecommendationParameters, Query()]
) -> Advice:
    """The deepest level that is shown to be no worse than the unpruned model, within margins.

    The answer includes its evidence, what would change it, and its limits. If no level can be
    recommended, `level` is null.
    """
    request = RecommendationRequest(
        model=asked.model,
        tasks=tuple(asked.task.split(",")) if asked.task is not None else (),
        budget=parse_budget(asked.budget),
        margins=Margins.with_default(
            asked.margin, asked.faithfulness_margin, asked.calibration_margin
        ),
        criteria=parse_criteria(asked.criteria),
        calibration=asked.calibration,
        calibrator=asked.calibrator,
        device=asked.device,
    )
    return load_advice(snapshot, request)
