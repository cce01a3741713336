"""The shipped automations: as Prefect reads them, and the events that trigger them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import yaml
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events import Event
from prefect.events.schemas.automations import AutomationCore
from pydantic import SecretStr

from prunelake.flows import events
from prunelake.flows.automations import main
from prunelake.flows.events import HIDDEN_DEGRADATION, emit_hidden_degradations
from prunelake.flows.serverless import MACHINE_FAILURE
from prunelake.flows.verdicts import HIDDEN_DEGRADATIONS_QUERY
from prunelake.lake import read as lake_read
from prunelake.lake.sql import views
from prunelake.schema.verdicts import Verdict
from tests.support.paths import ROOT
from tests.support.runs.example_runs import explained_run, judged_run

if TYPE_CHECKING:  # importing the server takes seconds, and every test process collects this file
    from prefect.server.events.schemas.automations import EventTrigger
    from prefect.server.events.schemas.events import ReceivedEvent

FOLDER = ROOT / "automations"
NAMES = ("run_failed", "zombie_run", "hidden_degradation")


def described(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return found


def trigger(name: str) -> "EventTrigger":
    """The trigger as the server understands it."""
    from prefect.server.events.schemas.automations import EventTrigger

    return EventTrigger.model_validate(described(name)["trigger"])


def event(name: str, resource: dict[str, str], flow: str | None = None) -> "ReceivedEvent":
    related = [] if flow is None else [
        {"prefect.resource.id": f"prefect.flow.{uuid4()}", "prefect.resource.role": "flow",
         "prefect.resource.name": flow}
    ]  # fmt: skip
    from prefect.server.events.schemas.events import ReceivedEvent

    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": datetime.now(UTC),
            "event": name,
            "resource": resource,
            "related": related,
        }
    )


def of_flow(name: str, flow: str) -> "ReceivedEvent":
    return event(name, {"prefect.resource.id": f"prefect.flow-run.{uuid4()}"}, flow)


def judged(folder: Path, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run, and its verdicts that are hidden degradations."""
    (run,) = lake_read.read_table(folder, "runs").filter(run_id=run_id).to_dicts()
    with views.connect(folder, [run_id]) as connection:
        found = views.select(
            connection, HIDDEN_DEGRADATIONS_QUERY, verdict=Verdict.hidden_degradation
        )
    return run, found.to_dicts()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The events that are emitted, which reach no server."""
    found: list[Event] = []

    def record(name: str, **about: Any) -> Event:
        found.append(Event(event=name, **about))
        return found[-1]

    monkeypatch.setattr(events, "emit_event", record)
    return found


def test_every_file_is_an_automation() -> None:
    workflow = "github_gate"  # for GitHub Actions
    assert {path.stem for path in FOLDER.iterdir()} == {*NAMES, workflow}


@pytest.mark.parametrize("name", NAMES)
def test_prefect_reads_every_field(name: str) -> None:
    given = described(name)
    read = AutomationCore.model_validate(given)
    assert read.enabled

    def kept(part: Any, of: Any) -> None:
        # Prefect ignores unknown fields: a misspelt field would be lost.
        for key, value in part.items():
            assert key in of, key
            if isinstance(value, dict):
                kept(value, of[key])

    dumped = read.model_dump(mode="json")
    kept(given, dumped)
    for action, of in zip(given["actions"], dumped["actions"], strict=True):
        kept(action, of)


@pytest.mark.parametrize("flow", ["sweep", "watch", "publish"])
def test_a_failed_or_crashed_run_sends_a_notification(flow: str) -> None:
    failed = trigger("run_failed")
    for state in ("Failed", MACHINE_FAILURE, "Crashed", "TimedOut"):
        name = f"prefect.flow-run.{state}"
        assert failed.covers(of_flow(name, flow))
        assert failed.expects(name)
        assert not failed.covers(of_flow(name, "another"))
    assert not failed.expects("prefect.flow-run.Completed")


def test_a_run_without_heartbeats_is_a_zombie_until_it_ends() -> None:
    zombie = trigger("zombie_run")
    assert zombie.starts_after("prefect.flow-run.heartbeat")
    assert zombie.covers(of_flow("prefect.flow-run.heartbeat", "sweep"))
    ended = ("Completed", "HubNotReached", "Failed", MACHINE_FAILURE, "Cancelled", "Crashed")
    for state in (*ended, "heartbeat"):
        assert zombie.expects(f"prefect.flow-run.{state}")
    assert described("zombie_run")["actions"][0]["state"] == "CRASHED"


def test_a_run_with_hidden_degradations_emits_the_event_that_is_waited_for(
    tmp_path: Path, told: list[Event]
) -> None:
    run_id = judged_run(tmp_path, model="hub:org/model", task="opinions")
    emit_hidden_degradations(*judged(tmp_path, run_id))
    (found,) = told
    assert found.event == HIDDEN_DEGRADATION
    assert found.resource["prefect.resource.id"] == f"prunelake.run.{run_id}"
    assert found.resource["prunelake.model"] == "hub:org/model"
    assert found.resource["prunelake.task"] == "opinions"
    assert found.payload["run_id"] == run_id
    assert found.payload["count"] == len(found.payload["found"]) > 0
    # In this run level 1 is overconfident, and as accurate as level 0.
    assert {row["level"] for row in found.payload["found"]} == {1}
    assert "ece" in {row["metric"] for row in found.payload["found"]}
    waits = trigger("hidden_degradation")
    assert waits.expects(found.event)
    assert waits.covers(event(found.event, dict(found.resource)))


def test_a_run_without_hidden_degradations_emits_nothing(tmp_path: Path, told: list[Event]) -> None:
    emit_hidden_degradations(*judged(tmp_path, explained_run(tmp_path)))
    assert told == []


def test_the_notification_has_the_expected_text() -> None:
    from prefect.server.utilities.user_templates import render_user_template_sync

    action = described("hidden_degradation")["actions"][0]
    about = {
        "resource": {f"prunelake.{n}": n for n in ("model", "task", "strategy")},
        "payload": {
            "run_id": "0123",
            "count": 2,
            "found": [
                {"level": 1, "metric": "ece", "delta": 0.125},
                {"level": 2, "metric": "brier", "delta": 0.25},
            ],
        },
    }
    assert render_user_template_sync(action["body"], {"event": about}).splitlines() == [
        "model on task (strategy):",
        "2 metrics are worse where accuracy is stable.",
        "level 1: ece changed by 0.125",
        "level 2: brier changed by 0.25",
        "Run 0123.",
    ]
    subject = render_user_template_sync(action["subject"], {"event": about})
    assert subject == "PruneLake: hidden degradation in model"


def test_the_command_creates_each_once_and_refuses_a_missing_block(
    prefect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(FOLDER / f"{name}.yaml") for name in NAMES]
    with get_client(sync_client=True) as client:
        assert str(client.api_url).startswith(prefect)
        missing = uuid4()
        assert main(["--block", str(missing), *files]) == 1
        assert f"--block {missing}: the Prefect server at" in capsys.readouterr().err
        assert _named(client) == []
        block = Secret[str](value=SecretStr("unused")).save("alerts")
        for _ in range(2):
            assert main(["--block", str(block), *files]) == 0
        found = _named(client)
    assert sorted(automation["name"] for automation in found) == sorted(
        described(name)["name"] for name in NAMES
    )
    sends = [
        action["block_document_id"]
        for automation in found
        for action in automation["actions"]
        if action["type"] == "send-notification"
    ]
    assert sends == [str(block)] * 2


def _named(client: SyncPrefectClient) -> list[dict[str, Any]]:
    """The automations that the files describe; deployments on this server have others."""
    names = {described(name)["name"] for name in NAMES}
    found = client.request("POST", "/automations/filter").json()
    return [automation for automation in found if automation["name"] in names]
