"""What a run shows, in words."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from api import findings, queries
from api.problems import RESPONSES
from api.routes.charts import Chosen
from api.routes.data import OfSnapshot, given_once
from api.subject import chosen_run, subject_of

router = APIRouter(responses=RESPONSES, tags=["findings"], dependencies=[Depends(given_once)])


class Findings(BaseModel):
    """What a run shows."""

    run_id: str
    model: str
    task: str
    strategy: str
    level: int = Field(description="The level set beside the unpruned model.")
    metric: str
    levels: list[int]
    metrics: list[str] = Field(description="The metrics that have a value.")
    outline: str = Field(description="The verdict in one line.")
    sentences: list[str] = Field(description="The verdict, sentence by sentence.")
    warnings: list[str] = Field(description="What makes the numbers say less than they seem to.")
    caveat: str = Field(description="How many examples the numbers rest on.")
    explained_by: list[str | None] | None = Field(
        description="Method, operator and AOPC variant of the explanations; null without any."
    )


@router.get("/findings", summary="What a run shows, in words")
def of_run(snapshot: OfSnapshot, asked: Annotated[Chosen, Query()]) -> Findings:
    """The verdict on the latest run that fits, in words, with its warnings."""
    with snapshot.reading() as connection:
        run = chosen_run(connection, asked.run_id, asked.model, asked.task, asked.strategy)
        run_id = run["run_id"]
        levels = queries.levels([run_id]).rows(connection)
        subject = subject_of(run, levels, asked.level, asked.metric)
        headline = queries.headline(run_id).rows(connection).rows()
        uniform, majority = queries.guessing(run_id).rows(connection).row(0)
    return Findings(
        run_id=run_id,
        model=run["model"],
        task=run["task"],
        strategy=run["strategy"],
        level=subject.level,
        metric=subject.metric,
        levels=sorted(set(levels["level"])),
        metrics=sorted(set(levels.drop_nulls("value")["metric"])),
        outline=findings.outline(levels),
        sentences=findings.summary(levels, subject.level),
        warnings=findings.warnings(levels, uniform, majority, subject.level),
        caveat=findings.caveat(levels),
        explained_by=list(headline[0]) if headline else None,
    )
