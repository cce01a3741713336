"""The deployments of prefect.yaml on a server, without workers.

tests/docs/test_operations_guide.py also starts workers, in `make endurance`.
"""

from collections.abc import Iterator
from contextlib import chdir
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Completed, Crashed, Failed, Scheduled

from prunelake.flows.doctor import doctor
from prunelake.flows.missed_runs import working
from prunelake.flows.serverless import MACHINE_FAILURE
from prunelake.flows.watch import DeploymentLauncher
from prunelake.settings import Settings
from prunelake.watch.decision import EvaluationState
from prunelake.watch.rounds import WatchRound
from prunelake.watch.watchlist import read_watchlist
from tests.support.operations.operations_guide import wait_for
from tests.support.operations.prefect_commands import run_prefect
from tests.support.paths import ROOT

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))[
    "deployments"
]


@pytest.fixture(scope="module")
def client(prefect: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """The client of a server that has all deployments, without schedules.

    Other tests of flows share the server, and look for their own runs.
    """
    folder = tmp_path_factory.mktemp("deployments")
    unscheduled = [deployment | {"schedules": []} for deployment in deepcopy(DEPLOYMENTS)]
    for deployment in unscheduled:
        for trigger in deployment.get("triggers", ()):
            if "within" in trigger:
                trigger["within"] = 10  # the least that Prefect accepts
    (folder / "prefect.yaml").write_text(
        yaml.safe_dump({"name": "prunelake", "deployments": unscheduled})
    )
    with chdir(folder), get_client(sync_client=True) as client:
        assert str(client.api_url).startswith(prefect)
        for pool in ("gpu", "cpu"):
            run_prefect(["work-pool", "create", pool, "--type", "process"])
        run_prefect(["deploy", "--all"])
        yield client


def runs_of(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    """The flow runs of a flow that no schedule has started."""
    flows = {flow.id for flow in client.read_flows() if flow.name == name}
    return [
        run for run in client.read_flow_runs() if run.flow_id in flows and not run.auto_scheduled
    ]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_a_deployment_runs_the_flow_of_its_entrypoint(
    deployment: dict[str, str], client: SyncPrefectClient
) -> None:
    flow: Flow[..., object] = load_flow_from_entrypoint(
        deployment["entrypoint"], use_placeholder_flow=False
    )
    deployed = client.read_deployment_by_name(f"{flow.name}/{deployment['name']}")
    assert deployed.entrypoint == deployment["entrypoint"]
    assert deployed.parameter_openapi_schema is not None
    assert {*flow.parameters.properties} == {*deployed.parameter_openapi_schema["properties"]}


def end_sweep(client: SyncPrefectClient, state: State[None]) -> None:
    """Start a sweep on no worker, and end it in this state."""
    earlier = {run.id for run in runs_of(client, "sweep")}
    spec = '{"model": "unused", "task": "opinions"}'
    run_prefect(["deployment", "run", "sweep/sweep", "--param", f"spec={spec}"])
    (sweep,) = (run for run in runs_of(client, "sweep") if run.id not in earlier)
    client.set_flow_run_state(sweep.id, state, force=True)


def test_one_publication_follows_a_burst_of_sweeps(client: SyncPrefectClient) -> None:
    for _ in range(3):
        end_sweep(client, Completed())
    (publication,) = wait_for(lambda: runs_of(client, "publish"), "a publication")
    assert publication.work_pool_name == "cpu"


def test_a_round_that_crashed_is_replaced_and_one_that_failed_waits_for_its_hour() -> None:
    (watch,) = (it for it in DEPLOYMENTS if it["name"] == "watch")
    expected = [
        trigger["expect"]
        for trigger in watch["triggers"]
        if "watch" in trigger["match_related"]["prefect.resource.name"]
    ]
    assert expected == [["prefect.flow-run.Crashed"]]


def test_a_round_follows_each_machine_failure(client: SyncPrefectClient) -> None:
    states: list[State[None]] = [Failed(), Crashed(), Failed(name=MACHINE_FAILURE)]
    for state in states:
        end_sweep(client, state)
    # A failure of the model starts no round.
    assert len(wait_for(lambda: runs_of(client, "watch")[1:], "two rounds")) == 1


def test_one_of_several_runs_that_are_due_works(client: SyncPrefectClient, tmp_path: Path) -> None:
    deployment = client.read_deployment_by_name("doctor/doctor").id
    parameters = {"settings": {"lake": str(tmp_path)}}

    def due(hours_ago: int) -> FlowRun:
        state: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(hours=hours_ago))
        return client.create_flow_run_from_deployment(
            deployment, parameters=parameters, state=state
        )

    def states() -> list[str]:
        found = [client.read_flow_run(run.id).state for run in (first, second, third)]
        return [state.name or "" for state in found if state]

    first, second, third = due(3), due(2), due(1)
    run_flow(doctor, flow_run=first, return_type="state")
    assert states() == ["Completed", "Cancelled", "Cancelled"]


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(0, 10), (5, 11), (9, 12)], {0}),  # all were due when the first began
        ([(0, 10), (5, 11), (10.5, 12)], {0, 2}),  # the second does not work, so the third does
        ([(0, 40), (30, 70), (60, 100), (90, 130)], {0, 2}),  # each is late by an interval
    ],
)
def test_the_runs_that_work_leave_nothing_that_was_due(
    runs: list[tuple[float, float]], expected: set[int]
) -> None:
    midnight = datetime(2026, 1, 1, tzinfo=UTC)
    moments = {
        UUID(int=number): (midnight + timedelta(seconds=due), midnight + timedelta(seconds=begun))
        for number, (due, begun) in enumerate(runs)
    }
    assert {run.int for run in working(moments)} == expected


def test_a_round_starts_the_missing_sweep_once(
    client: SyncPrefectClient, tiny_folder: Path, tmp_path: Path
) -> None:
    earlier = {run.id for run in runs_of(client, "sweep")}
    watchlist = {
        "defaults": {"rows": {"first": 3}, "levels": [0, 1], "explain": None},
        "models": [{"model": str(tiny_folder), "tasks": ["opinions"], "strategies": ["random:1"]}],
    }
    (tmp_path / "watchlist.yaml").write_text(yaml.safe_dump(watchlist))
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path / "cache")
    for state in (EvaluationState.started, EvaluationState.in_flight):
        (line,) = WatchRound(
            read_watchlist(tmp_path / "watchlist.yaml"), settings, DeploymentLauncher()
        ).run()
        assert line.state is state
    (run,) = (run for run in runs_of(client, "sweep") if run.id not in earlier)
    assert run.parameters["spec"]["model"] == str(tiny_folder)
    assert run.name == f"{tiny_folder} opinions random:1"
    assert run.state is not None
    assert run.state.is_scheduled()
