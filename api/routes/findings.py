"""What a run shows, in words."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from ..findings import sentences as findings_sentences
from ..findings.selection import checked_selection, find_run
from ..http.problems import ERROR_RESPONSES
from ..queries import run_metrics, runs
from .charts import RunParameters
from .data import SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["findings"], dependencies=[Depends(reject_repeated_parameters)]
)


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
def of_run(snapshot: SnapshotDependency, asked: Annotated[RunParameters, Query()]) -> Findings:
    """The verdict on the latest run that fits, in words, with its warnings."""
    with snapshot.cursor() as connection:
        run = find_run(connection, asked.run_id, asked.model, asked.task, asked.strategy)
        run_id = run["run_id"]
        levels = run_metrics.headline_metrics([run_id]).rows(connection)
        subject = checked_selection(run, levels, asked.level, asked.metric)
        headline = runs.headline_explanation(run_id).rows(connection).rows()
        uniform, majority = runs.guessing_accuracy(run_id).rows(connection).row(0)
    return Findings(
        run_id=run_id,
        model=run["model"],
        task=run["task"],
        strategy=run["strategy"],
        level=subject.level,
        metric=subject.metric,
        levels=sorted(set(levels["level"])),
        metrics=sorted(set(levels.drop_nulls("value")["metric"])),
        outline=findings_sentences.one_line_summary(levels),
        sentences=findings_sentences.summary_sentences(levels, subject.level),
        warnings=findings_sentences.warnings(levels, uniform, majority, subject.level),
        caveat=findings_sentences.sample_size_note(levels),
        explained_by=list(headline[0]) if headline else None,
    )
