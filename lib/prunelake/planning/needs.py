"""The values of a plan: the examples that each criterion needs, and their cost."""

from pydantic import Field

from prunelake.planning.flips import FlipNeed
from prunelake.planning.pilots import SpreadSource
from prunelake.recommend.request import CalibrationMetric, Criterion, Margins
from prunelake.spec import FrozenValue


class CriterionNeed(FrozenValue):
    """The examples that one criterion needs at one level."""

    level: int
    criterion: Criterion
    metric: str
    margin: float
    is_explained: bool = Field(description="Whether its examples have to be explained.")
    change: float | None = Field(description="The pilot's difference from level 0.")
    spread: float = Field(
        description="The standard error of the difference times sqrt(n); for accuracy the square "
        "root of the share of discordant examples."
    )
    spread_source: SpreadSource = Field(description="Where the spread comes from.")
    run_id: str | None = Field(description="The pilot; null if the lake has none.")
    n: int = Field(description="The examples that the lake has.")
    is_decided: bool = Field(
        description="Whether they are enough: the change is significant or within the margin."
    )
    n_needed: int = Field(
        description="The examples that decide it with the planned power for every true change "
        "within the pilot's 95 % interval; n if it is decided."
    )


class VerdictPlan(FrozenValue):
    """The evidence that decides every criterion at every level, and its cost.

    Levels that have lost accuracy are not explained: their explanations decide nothing.
    """

    model: str
    task: str
    strategy: str
    margins: Margins
    calibration: CalibrationMetric
    power: float
    needs: tuple[CriterionNeed, ...]
    flips: tuple[FlipNeed, ...] = Field(
        description="The expected flip rates of the levels, and of the candidates of comparisons."
    )
    rows: int = Field(description="The rows that decide accuracy and calibration.")
    explained_rows: int = Field(description="The rows that decide comprehensiveness, sufficiency.")
    explained_levels: tuple[int, ...]
    forward_tokens: int = Field(description="Forward tokens of the rows that the lake lacks.")
    minutes: float
    device: str | None = Field(
        description="The device that the minutes are for; null if the speed is assumed."
    )
    assumptions: tuple[str, ...] = Field(description="The assumptions that replace missing runs.")
    split_rows: int | None = Field(
        description="The rows of the task's split; null if request and lake do not give them."
    )
    command: str = Field(
        description="The sweep that computes this evidence, or all rows if the split has fewer; "
        "empty if no level is planned."
    )
