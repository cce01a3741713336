"""The inputs of routes from a request: the snapshot, the settings, and the chosen run."""

from typing import Annotated

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from prunelake.errors import InvalidRequest

from ..findings.selection import SelectionRequest
from ..queries.snapshots.snapshot import Snapshot
from ..settings import ApiSettings


# These functions are async because FastAPI runs other functions in threads, for which they would
# wait.
async def snapshot_of(request: Request) -> Snapshot:
    """The snapshot that answers a request."""
    snapshot: Snapshot = request.state.snapshot
    return snapshot


async def settings_of(request: Request) -> ApiSettings:
    """The settings of the server."""
    settings: ApiSettings = request.app.state.settings
    return settings


async def reject_repeated_parameters(request: Request) -> None:
    """Refuse a repeated parameter: the route would ignore one of its values.

    Raises:
        InvalidRequest: a parameter is given twice.
    """
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise InvalidRequest(f"{name} is given twice")


SnapshotDependency = Annotated[Snapshot, Depends(snapshot_of)]
SettingsDependency = Annotated[ApiSettings, Depends(settings_of)]


class RunParameters(BaseModel):
    """The parameters that choose a run: the latest run that matches all of them."""

    model_config = ConfigDict(extra="forbid")

    run_id: str | None = Field(
        default=None, description="A run; GET /models lists them.", examples=["b163322a09186ad1"]
    )
    model: str | None = Field(
        default=None,
        description="The whole reference of a model, or the last part of it.",
        examples=["SmolLM2-360M-Instruct"],
    )
    task: str | None = Field(default=None, description="Its task.", examples=["arc_easy"])
    strategy: str | None = Field(
        default=None, description="The strategy that ordered the layers.", examples=["cosine"]
    )
    level: int | None = Field(
        default=None,
        description="The level to compare with level 0; by default the deepest level with stable "
        "accuracy, or the candidate with the most hidden degradations.",
        examples=[4],
    )
    metric: str | None = Field(
        default=None, description="A metric of the run; ece by default.", examples=["nll"]
    )

    @property
    def selection_request(self) -> SelectionRequest:
        """These parameters without HTTP."""
        return SelectionRequest(
            run_id=self.run_id,
            model=self.model,
            task=self.task,
            strategy=self.strategy,
            level=self.level,
            metric=self.metric,
        )
