"""The findings on one run: sentences, warnings, and the available levels and metrics."""

from typing import Literal

from pydantic import BaseModel, Field

from ..queries import runs
from ..queries.snapshots.snapshot import Snapshot
from . import sentences
from .headline import headline
from .selection import SelectionRequest, select_with_levels
from .settle import settled_by

LevelKind = Literal["removal", "candidate"]
KIND_DESCRIPTION = (
    "removal: each level is a number of removed layers. candidate: each level above 0 is a model "
    "that is compared with the baseline, level 0."
)
LABELS_DESCRIPTION = "The name of each level: its number, or the label of a candidate."


class Findings(BaseModel):
    """The findings about a run, in words."""

    run_id: str
    model: str
    task: str
    strategy: str
    level: int = Field(description="The level that is compared with level 0.")
    metric: str
    levels: list[int]
    kind: LevelKind = Field(description=KIND_DESCRIPTION)
    labels: list[str] = Field(description=LABELS_DESCRIPTION)
    metrics: list[str] = Field(description="The metrics that have a value.")
    outline: str = Field(description="The finding in one line, or the sweep that would settle it.")
    sentences: list[str] = Field(description="The verdict, sentence by sentence.")
    warnings: list[str] = Field(description="Reasons to trust the numbers less.")
    caveat: str = Field(description="The number of examples behind the numbers.")
    settled_by: str | None = Field(
        description="The command of a sweep or comparison that would settle the inconclusive "
        "verdicts; with all rows if the task has too few; null if none would."
    )
    explained_by: list[str | None] | None = Field(
        description="Method, operator and AOPC variant of the explanations; null without any."
    )


def load_findings(snapshot: Snapshot, request: SelectionRequest) -> Findings:
    """The findings about the run that a request names.

    Raises:
        NotFound, NothingToShow: as `selection.select_with_levels`.
    """
    read = snapshot.kept_rows
    selection, levels = select_with_levels(read, request)
    explained_by = read(runs.headline_explanation(selection.run_id)).rows()
    uniform, majority = read(runs.guessing_accuracy(selection.run_id)).row(0)
    settling = settled_by(selection.run, levels)
    named = levels.select("level", "label", "kind").unique().sort("level")
    return Findings(
        run_id=selection.run_id,
        model=selection.run["model"],
        task=selection.run["task"],
        strategy=selection.run["strategy"],
        level=selection.level,
        metric=selection.metric,
        levels=named["level"].to_list(),
        kind=named["kind"][0],
        labels=named["label"].to_list(),
        metrics=sorted(set(levels.drop_nulls("value")["metric"])),
        outline=headline(selection.run, levels),
        sentences=sentences.summary_sentences(levels, selection.level),
        warnings=sentences.warnings(levels, uniform, majority, selection.level),
        caveat=sentences.sample_size_note(levels),
        settled_by=settling.command if settling else None,
        explained_by=list(explained_by[0]) if explained_by else None,
    )
