"""GET /findings: a run in words."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ..findings.run_findings import Findings, load_findings
from ..http.problems import ERROR_RESPONSES
from .parameters import RunParameters, SnapshotDependency, reject_repeated_parameters

router = APIRouter(
    responses=ERROR_RESPONSES, tags=["findings"], dependencies=[Depends(reject_repeated_parameters)]
)


@router.get("/findings", operation_id="get_findings", summary="The findings on a run, in words")
def of_run(snapshot: SnapshotDependency, asked: Annotated[RunParameters, Query()]) -> Findings:
    """The verdict on the latest run that matches, in words, with its warnings."""
    return load_findings(snapshot, asked.selection_request)
