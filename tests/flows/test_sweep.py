"""The flow around a sweep: tasks, artifacts, events."""

import json
import logging
import re
import time
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterName,
)
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

import prunelake.flows.until_decided
from prunelake.errors import ModelNotFound
from prunelake.flows import verdicts
from prunelake.flows.serverless import MACHINE_FAILURE
from prunelake.flows.sweep import sweep
from prunelake.flows.until_decided import until_decided
from prunelake.lake import read
from prunelake.settings import Settings
from prunelake.spec import Rows, SweepSpec
from prunelake.sweeps.until_decided.run import Limits
from tests.support.lakes.local_paths import local_path
from tests.support.limits import HANG_S
from tests.support.runs.example_runs import judged_run
from tests.support.sweeps.fake_sweeps import FakeSweeps
from tests.support.sweeps.small_sweep import small_sweep


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")


@pytest.fixture
def spec(tiny_folder: Path) -> SweepSpec:
    return small_sweep(tiny_folder)


@pytest.mark.usefixtures("prefect")
def test_the_flow_shows_progress_and_verdicts(
    settings: Settings, spec: SweepSpec, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(update={"page_url": "http://lake.example:8000/"})
    run_id = sweep(spec, settings)
    with get_client(sync_client=True) as client:
        name = f"{spec.model} everyday_knowledge cosine"
        of_run = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        assert len(client.read_flow_runs(flow_run_filter=of_run)) == 1
        artifacts = client.read_artifacts(flow_run_filter=of_run)
        deadline = time.monotonic() + HANG_S
        names: set[str] = set()
        while "analyse_run" not in {
            name.split("-")[0] for name in names
        }:  # they appear one after the other
            assert time.monotonic() < deadline, names
            time.sleep(0.1)
            names = {task.name for task in client.read_task_runs(flow_run_filter=of_run)}
    assert {"examples 0 to 1", "examples 2 to 4"} <= names
    progress, *shown = sorted(artifacts, key=lambda artifact: artifact.key or "")
    assert (progress.type, progress.data) == ("progress", 100.0)
    keys = ["charts", "hidden-degradations", "sweep-summary"]
    assert [artifact.key for artifact in shown] == keys
    assert f"(http://lake.example:8000/?run_id={run_id})" in str(shown[0].data)
    tokens = read.read_table(settings.lake, "runs")["forward_tokens"].item()
    assert re.search(
        r"5 of 5 examples, \d+ forward tokens a second; about 0:00:00 left", caplog.text
    )
    assert f"run {run_id} is in the lake: {spec.model} everyday_knowledge cosine" in caplog.text
    assert f"levels [0, 1, 3], {tokens} forward tokens, " in caplog.text
    shown_none = rf"run {run_id}: no hidden degradation shown; \d+ of \d+ verdicts are inconclusive"
    assert re.search(shown_none, caplog.text)


def test_a_flow_without_a_server_is_a_plain_call(
    settings: Settings, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def evaluate(*arguments: Any) -> str:
        calls.append(arguments)
        return "a run"

    monkeypatch.setattr("prunelake.sweeps.run.run_sweep", evaluate)
    monkeypatch.setattr("prefect.flow_engine.run_flow", lambda **_: pytest.fail("a server starts"))
    with temporary_settings(restore_defaults=[PREFECT_API_URL]):
        assert sweep(spec, settings) == "a run"
        fields = cast("SweepSpec", spec.model_dump(mode="json"))  # as from JSON
        assert sweep(fields, settings=settings) == "a run"
    assert calls == [(spec, settings, None)] * 2


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize(
    ("error", "state"),
    [(MemoryError("full"), MACHINE_FAILURE), (ModelNotFound("no such model"), "Failed")],
)
def test_a_machine_failure_has_its_own_state(
    settings: Settings,
    spec: SweepSpec,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    state: str,
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("prunelake.sweeps.run.run_sweep", fail)
    named = spec.model_copy(update={"model": f"fails {state}"})
    with pytest.raises(type(error)):
        sweep(named, settings)
    with get_client(sync_client=True) as client:
        name = FlowRunFilterName(any_=[f"{named.model} everyday_knowledge cosine"])
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=name))
    assert run.state is not None
    assert (run.state.is_failed(), run.state.name) == (True, state)
    assert str(error) in (run.state.message or "")


def test_hidden_degradations_are_shown_and_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, list[dict[str, Any]]] = {}
    events: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    def create(table: list[dict[str, Any]], key: str, description: str) -> None:
        assert run["run_id"] in description
        shown[key] = table

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        events.append((event, resource, payload))

    run_id = judged_run(tmp_path, n=400)
    monkeypatch.setattr(verdicts, "create_table_artifact", create)
    monkeypatch.setattr("prunelake.flows.events.emit_event", emit)
    (run,) = read.read_table(tmp_path, "runs").to_dicts()
    said = verdicts.announce_verdicts(Settings(lake=tmp_path), run)
    assert said == "hidden degradations at levels [1]"
    assert {row["level"] for row in shown["hidden-degradations"]} == {1}
    assert "ece" in {row["metric"] for row in shown["hidden-degradations"]}
    assert [row["level"] for row in shown["sweep-summary"]] == [0, 1, 2]
    (event,) = events
    name, resource, payload = event
    assert name == "prunelake.hidden_degradation.found"
    assert resource["prefect.resource.id"] == f"prunelake.run.{run_id}"
    assert {row["level"] for row in payload["found"]} == {1}


@pytest.mark.parametrize("broken", ["views.connect", "create_table_artifact", "emit_event"])
def test_failing_artifacts_do_not_fail_a_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("gone")

    judged_run(tmp_path, n=400)
    monkeypatch.setattr(verdicts, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(verdicts, "get_run_logger", lambda: logging.getLogger("sweep"))
    where = "prunelake.flows.events" if broken == "emit_event" else "prunelake.flows.verdicts"
    monkeypatch.setattr(f"{where}.{broken}", fail)
    (run,) = read.read_table(tmp_path, "runs").to_dicts()
    said = verdicts.announce_verdicts(Settings(lake=tmp_path), run)
    assert said == "verdicts not shown"
    assert "is written, but its verdicts are not shown: RuntimeError: gone" in caplog.text


@pytest.mark.usefixtures("prefect")
def test_the_flow_shows_the_rounds_of_a_sweep_until_decided(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = FakeSweeps(local_path(settings.lake), {3: {"accuracy": 0.4, "ece": 0.3}})

    @flow(name="sweep")
    def fake_sweep(spec: SweepSpec, settings: Settings) -> str:  # noqa: ARG001  # as `sweep`
        return sweeps(spec)

    monkeypatch.setattr(prunelake.flows.until_decided, "sweep", fake_sweep)
    spec = SweepSpec(
        model="tiny", task="opinions", rows=Rows(sample=60), levels=(0, 1, 2, 3), explain=None
    )
    rounds = until_decided(spec, Limits(margin=0.1), settings)
    assert rounds[-1].open_cells == ()
    with get_client(sync_client=True) as client:
        names = {run.name for run in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)}
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["rounds"])),
            limit=1,
            sort=ArtifactSort.CREATED_DESC,
        )
    assert "tiny opinions cosine until decided" in names
    assert {f"round {found.number}: {found.size.rows} rows" for found in rounds} <= names
    table = json.loads(str(artifact.data))
    assert [row["run_id"] for row in table] == [found.run_id for found in rounds]
    assert table[-1]["open"] == ""
