"""GET /findings: a run in words; GET /map: the verdicts on all levels of all runs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ..findings.run_findings import Findings, load_findings
from ..findings.verdict_map import VerdictMap, load_verdict_map
from ..http.problems import ERROR_RESPONSES
from .parameters import RunParameters, SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["findings"], dependencies=[Depends(reject_repeated_parameters)]
)


@router.get("/findings", operation_id="get_findings", summary="The findings on a run, in words")
def of_run(snapshot: SnapshotDependency, asked: Annotated[RunParameters, Query()]) -> Findings:
    """The verdict on the latest run that matches, in words, with its warnings."""
    return load_findings(snapshot, asked.selection_request)


@router.get(
    "/map", operation_id="get_verdict_map", summary="The verdict on every level of all runs"
)
def of_all_runs(snapshot: SnapshotDependency) -> VerdictMap:
    """Each level of each run by its worst verdict, and each run in a line."""
    return load_verdict_map(snapshot)
