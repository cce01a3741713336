"""One round of `watch`: start missing evaluations on the workers of a Prefect server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun, State
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.states import Completed, Crashed

from prunelake.errors import PrefectUnavailable, one_line
from prunelake.flows.serverless import MACHINE_FAILURE, run_logger, serverless_flow
from prunelake.identity import content_hash
from prunelake.lake.attempt_log import Attempt
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.watch.decision import EvaluationState
from prunelake.watch.evaluations import Evaluation
from prunelake.watch.launcher import AttemptOutcome
from prunelake.watch.round_lines import RoundLine, summary
from prunelake.watch.rounds import WatchRound
from prunelake.watch.watchlist import read_watchlist

SWEEP_DEPLOYMENT = "sweep/sweep"
SWEEPS_DEPLOYMENT = "sweeps/sweeps"
COMPARE_DEPLOYMENT = "compare/compare"
LARGEST_GROUP = 16
"""The most sweeps of one model in a flow run: they wait for each other."""

HEARTBEAT_EVENT = "prefect.flow-run.heartbeat"

FLOW_RUN_TIMEOUT = timedelta(minutes=10)
"""A flow run without a heartbeat for this long is dead.

`automations/zombie_run.yaml` knows after two minutes. This is longer: a server that was down has
missed the heartbeats of runs that go on.
"""


@serverless_flow("watch", "watch {watchlist}", is_periodic=True)
def watch(
    watchlist: Path = Path("watchlist.yaml"),
    settings: Settings | None = None,
    is_retry: bool = False,
) -> State[list[RoundLine]]:
    """Start each missing evaluation on the workers; returns the lines of the round.

    Two simultaneous rounds start each evaluation only once. If the hub does not answer, the state
    of this flow run is called `HubNotReached`, and the next round tries again.
    """
    logger = run_logger()
    lines = WatchRound(
        read_watchlist(watchlist), settings or Settings(), DeploymentLauncher(), is_retry=is_retry
    ).run()
    for line in lines:
        say = (
            logger.warning
            if line.state in (EvaluationState.parked, EvaluationState.unreachable)
            else logger.info
        )
        say("%s: %s", line.state, " ".join(filter(None, (line.task, line.strategy, line.model))))
        if line.detail:
            say("  %s", line.detail)
    if lines:
        create_table_artifact(table=_artifact_rows(lines), key="watch", description=summary(lines))
    is_cut_off = any(line.state is EvaluationState.unreachable for line in lines)
    name = "HubNotReached" if is_cut_off else "Completed"
    return Completed(name=name, message=summary(lines), data=lines)


class DeploymentLauncher:
    """Starts sweeps on the workers of the server at PREFECT_API_URL.

    The sweeps of one model that a round starts are one flow run, which loads the model once.

    Raises:
        PrefectUnavailable: no server is set, it does not answer, or it lacks the deployment.
    """

    largest_group = LARGEST_GROUP

    def __init__(self) -> None:
        if not get_current_settings().api.url:
            raise PrefectUnavailable(
                "no Prefect server to hand sweeps to: set PREFECT_API_URL, for example to "
                "http://127.0.0.1:4200/api (docs/operations.md)"
            )
        with _prefect_client() as client:
            client.read_deployment_by_name(SWEEP_DEPLOYMENT)

    def start(self, group: Sequence[tuple[Evaluation, Attempt]]) -> str:
        """Create the flow run of one or several attempts, once; returns its id."""
        evaluations = [evaluation for evaluation, _ in group]
        keys = [attempt.idempotency_key for _, attempt in group]
        specs = [evaluation.spec.model_dump(mode="json") for evaluation in evaluations]
        first = evaluations[0]
        name = f"{first.model_revision.model} {first.spec.task_name} {first.kind}"
        deployment = SWEEP_DEPLOYMENT
        parameters: dict[str, Any] = {"spec": specs[0]}
        if len(group) > 1:
            deployment, parameters = SWEEPS_DEPLOYMENT, {"specs": specs}
            name += f" and {len(group) - 1} more"
        elif not isinstance(first.spec, SweepSpec):
            deployment = COMPARE_DEPLOYMENT
        with _prefect_client() as client:
            run = client.create_flow_run_from_deployment(
                client.read_deployment_by_name(deployment).id,
                name=name,
                parameters=parameters,
                idempotency_key=content_hash(keys) if len(keys) > 1 else keys[0],
                tags=keys,
            )
        return str(run.id)

    def outcome(self, attempt: Attempt, alive_at: datetime) -> AttemptOutcome | None:
        """The outcome of an attempt; a flow run without a heartbeat for ten minutes is dead."""
        with _prefect_client() as client:
            run = _flow_run(client, attempt)
            if run is None:
                if attempt.flow_run is None and datetime.now(UTC) - alive_at < FLOW_RUN_TIMEOUT:
                    return None
                reason = "the server does not know its flow run"
                return AttemptOutcome(False, reason, is_machine_failure=True)
            state = run.state
            if state is None or state.is_scheduled() or state.is_paused():
                return None
            if state.is_final():
                said = f"flow run {run.name} {(state.name or '').lower()}"
                message = " ".join((state.message or "").split())
                return AttemptOutcome(
                    state.is_completed(),
                    f"{said}: {message}" if message else said,
                    is_machine_failure=state.is_crashed() or state.name == MACHINE_FAILURE,
                )
            if _is_silent(client, run.id, state):
                # Its worker can no longer report; this also frees its concurrency slot.
                reason = f"no sign of life for {FLOW_RUN_TIMEOUT.seconds // 60} minutes"
                client.set_flow_run_state(run.id, Crashed(message=reason), force=True)
                said = f"flow run {run.name} died: {reason}"
                return AttemptOutcome(False, said, is_machine_failure=True)
            return None


def _flow_run(client: SyncPrefectClient, attempt: Attempt) -> FlowRun | None:
    if attempt.flow_run is None:  # the watcher ended before it stored the id
        tags = FlowRunFilterTags(all_=[attempt.idempotency_key])
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=tags))
        return found[0] if found else None
    try:
        return client.read_flow_run(UUID(attempt.flow_run))
    except ObjectNotFound:
        return None


def _is_silent(client: SyncPrefectClient, run_id: UUID, state: State[object]) -> bool:
    since = datetime.now(UTC) - FLOW_RUN_TIMEOUT
    if state.timestamp > since:
        return False
    recent = EventFilter(
        occurred=EventOccurredFilter(since=since),  # type: ignore[arg-type]  # an alias of datetime
        event=EventNameFilter(name=[HEARTBEAT_EVENT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    return not client.read_events(filter=recent, limit=1).events


@contextmanager
def _prefect_client() -> Iterator[SyncPrefectClient]:
    """The client of the server; its errors become `PrefectUnavailable`."""
    url = get_current_settings().api.url
    try:
        with get_client(sync_client=True) as client:
            yield client
    except ObjectNotFound as error:
        raise PrefectUnavailable(
            f"the Prefect server at {url} lacks the deployment {SWEEP_DEPLOYMENT}, "
            f"{SWEEPS_DEPLOYMENT} or {COMPARE_DEPLOYMENT}; run `prefect deploy --all`"
        ) from error
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        raise PrefectUnavailable(
            f"the Prefect server at {url} does not answer ({one_line(error)})"
        ) from error


def _artifact_rows(lines: Sequence[RoundLine]) -> list[dict[str, str]]:
    return [
        {
            "state": line.state,
            "task": line.task,
            "strategy": line.strategy,
            "model": line.model,
            "why": line.detail,
        }
        for line in lines
    ]
