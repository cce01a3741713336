"""If several scheduled runs were due during an outage, one of them works for all."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.states import Cancelled

REASON = "another run of this schedule has begun since it was due"

BEGUN = [StateType.RUNNING, StateType.COMPLETED]
LIMIT = 200
"""The most runs that a server returns at once."""


def is_needless() -> bool:
    """Whether another run of this deployment, with the same parameters, has done its work.

    A run does the work of all that were due when it began. So it cancels the waiting runs. A worker
    that comes back may start several at once: the first of them works.
    """
    context = FlowRunContext.get()
    own = context.flow_run if context else None
    if own is None or own.deployment_id is None:
        return False
    with get_client(sync_client=True) as client:
        begun = _runs_like(client, own, BEGUN, FlowRunSort.START_TIME_DESC)
        moments = {
            run.id: (run.expected_start_time, run.start_time)
            for run in begun
            if run.expected_start_time is not None and run.start_time is not None
        }
        if own.id in moments and own.id not in working(moments):
            return True
        waiting = _runs_like(
            client, own, [StateType.SCHEDULED], FlowRunSort.EXPECTED_START_TIME_ASC
        )
        for run in waiting:
            if run.expected_start_time is not None and run.expected_start_time <= datetime.now(UTC):
                client.set_flow_run_state(run.id, Cancelled(message=REASON))
    return False


def working(runs: Mapping[UUID, tuple[datetime, datetime]]) -> set[UUID]:
    """The runs that work, given when each was due and has begun.

    No other working run has begun since they were due.
    """
    found = set()
    last = datetime.min.replace(tzinfo=UTC)
    for run, (due, begun) in sorted(runs.items(), key=lambda item: (item[1][1], item[0])):
        if last < due:
            found.add(run)
            last = begun
    return found


def _runs_like(
    client: SyncPrefectClient, own: FlowRun, states: list[StateType], sort: FlowRunSort
) -> list[FlowRun]:
    """The runs of the same deployment with the same parameters in these states."""
    assert own.deployment_id is not None
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))
        ),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[own.deployment_id])),
        sort=sort,
        limit=LIMIT,
    )
    return [run for run in runs if run.parameters == own.parameters]
