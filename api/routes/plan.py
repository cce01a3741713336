"""GET /plan: the price of a verdict."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prunelake.errors import InvalidRequest, validation_message
from prunelake.planning.request import PlanRequest
from prunelake.recommend.request import CalibrationMetric, Margins
from prunelake.schema.metrics import DEFAULT_MARGIN
from prunelake.schema.verdicts import DEFAULT_POWER
from prunelake.spec import Strategy

from ..findings.plan import PlanFindings, load_plan
from ..http.problems import ERROR_RESPONSES
from .parameters import SnapshotDependency, reject_repeated_parameters
from .recommendations import Margin

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["findings"], dependencies=[Depends(reject_repeated_parameters)]
)

LEVELS_PATTERN = r"^[0-9]{1,4}(,[0-9]{1,4}){0,199}$"


class PlanParameters(BaseModel):
    """The model, the task and the margins of a plan."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(
        description="The whole reference of a model, or the last part of it if the lake has it.",
        examples=["SmolLM2-360M-Instruct"],
    )
    task: str = Field(description="Its task.", examples=["arc_easy"])
    strategy: str = Field(
        default="cosine", description="The strategy that ordered the layers.", examples=["cosine"]
    )
    levels: str | None = Field(
        default=None,
        description="Levels, separated by commas; by default the levels of the lake's runs.",
        examples=["2,4,8"],
        pattern=LEVELS_PATTERN,
    )
    margin: Margin = Field(
        default=DEFAULT_MARGIN, description="The smallest change that matters, for each criterion."
    )
    faithfulness_margin: Margin | None = Field(
        default=None, description="The margin of explanations, instead of `margin`."
    )
    calibration_margin: Margin | None = Field(
        default=None, description="The margin of calibration, instead of `margin`."
    )
    calibration: CalibrationMetric = Field(
        default=CalibrationMetric.ece, description="The metric of calibration."
    )
    power: float = Field(
        default=DEFAULT_POWER, gt=0, lt=1, description="The probability of a right verdict."
    )


@router.get(
    "/plan", operation_id="get_plan", summary="The rows that a verdict needs, and their cost"
)
def of_verdicts(
    snapshot: SnapshotDependency, asked: Annotated[PlanParameters, Query()]
) -> PlanFindings:
    """For each criterion at each level, the examples that decide whether it changed.

    The spread comes from the runs in the snapshot; without runs it is assumed. `command` is the
    sweep that computes the missing rows.
    """
    try:
        strategy = Strategy.model_validate(asked.strategy)
    except ValidationError as error:
        problem = validation_message(error.errors(), name_of=lambda _: "")
        raise InvalidRequest(f"strategy {asked.strategy!r}: {problem}") from error
    request = PlanRequest(
        model=asked.model,
        task=asked.task,
        strategy=strategy,
        levels=tuple(map(int, asked.levels.split(","))) if asked.levels is not None else None,
        margins=Margins.with_default(
            asked.margin, asked.faithfulness_margin, asked.calibration_margin
        ),
        calibration=asked.calibration,
        power=asked.power,
    )
    return load_plan(snapshot, request)
