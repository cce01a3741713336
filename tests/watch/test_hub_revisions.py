"""Watchlist entries on the hub, with the real client against a local hub server."""

import json
import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from prunelake.flows import watch as flow_module
from prunelake.lake import attempt_log
from prunelake.settings import Settings
from prunelake.spec import SweepSpec
from prunelake.watch import revisions
from prunelake.watch.decision import EvaluationState
from tests.support.servers.hub_server import running_hub
from tests.support.sweeps.fake_launcher import (
    FakeLauncher,
    model_states,
    run_round,
    saved_model,
    watchlist,
)

FIRST, SECOND = "a" * 40, "b" * 40


def model(name: str, commit: str, size: int | None = 1000, downloads: int = 0) -> dict[str, Any]:
    files: list[dict[str, Any]] = [{"rfilename": "config.json", "size": 9}]
    if size is not None:
        files.append({"rfilename": "model.safetensors", "size": size})
    return {"id": name, "sha": commit, "siblings": files, "downloads": downloads}


@pytest.fixture
def pages() -> dict[str, bytes]:
    """The responses of the hub by path; tests change them, also between rounds."""
    return {}


@pytest.fixture
def endpoint(pages: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with running_hub(pages) as address:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(revisions, "HfApi", partial(HfApi, endpoint=address))
        yield address


def publish(pages: dict[str, bytes], *models: dict[str, Any]) -> None:
    pages["/api/models"] = json.dumps(list(models)).encode()
    for each in models:
        pages[f"/api/models/{each['id']}"] = json.dumps(each).encode()


@pytest.mark.usefixtures("endpoint")
def test_a_new_commit_is_a_new_evaluation_and_no_weights_are_fetched(
    tmp_path: Path, settings: Settings, pages: dict[str, bytes]
) -> None:
    publish(pages, model("org/name", FIRST))  # without any file
    listed, worker = watchlist(tmp_path, {"hub": "org/name"}), FakeLauncher(flow_run="f")
    assert model_states(run_round(listed, settings, worker)) == [("name", "started")]
    assert model_states(run_round(listed, settings, worker)) == [("name", "in flight")]
    publish(pages, model("org/name", SECOND))
    assert model_states(run_round(listed, settings, worker)) == [("name", "started")]
    assert [each.model_revision.revision for each in worker.started] == [FIRST, SECOND]
    assert {each.model_revision.model for each in worker.started} == {"hub:org/name"}
    # The sweeps evaluate these commits, also if there is a newer one when they start.
    specs = [each.spec for each in worker.started]
    assert [spec.reference for spec in specs if isinstance(spec, SweepSpec)] == [
        f"hub:org/name@{commit}" for commit in (FIRST, SECOND)
    ]
    assert len({each.spec_key for each in worker.started}) == 1


@pytest.mark.usefixtures("endpoint")
def test_a_named_revision_is_resolved(
    tmp_path: Path, settings: Settings, pages: dict[str, bytes]
) -> None:
    pages["/api/models/org/name/revision/v1"] = json.dumps(model("org/name", FIRST)).encode()
    worker = FakeLauncher()
    run_round(watchlist(tmp_path, {"model": "hub:org/name@v1"}), settings, worker)
    assert [each.model_revision.revision for each in worker.started] == [FIRST]
    assert worker.started[0].model_revision.model == "hub:org/name@v1"


@pytest.mark.usefixtures("endpoint")
def test_a_query_returns_models_with_enough_downloads_and_skips_those_without_weights(
    tmp_path: Path, settings: Settings, pages: dict[str, bytes]
) -> None:
    publish(
        pages,
        model("org/large", FIRST, downloads=90, size=10**10),
        model("org/liked", FIRST, downloads=50),
        model("org/empty", FIRST, downloads=40, size=None),
        model("org/rare", SECOND, downloads=3),
    )
    worker = FakeLauncher()
    query = {"author": "org", "tags": ["text-generation"], "min_downloads": 10}
    listed = watchlist(tmp_path, {"query": query}, budget={"max_model_gb": 5})
    lines = run_round(listed, settings, worker)
    assert model_states(lines) == [
        ("large", "skipped"),
        ("empty", "skipped"),
        ("liked", "evaluated"),
    ]
    assert lines[0].detail == "its weights are 10 GB, the entry allows 5 GB"
    assert "no *.safetensors" in lines[1].detail


@pytest.mark.usefixtures("endpoint")
def test_a_model_that_the_hub_lacks_is_skipped_and_blocks_no_other(
    tmp_path: Path, settings: Settings, pages: dict[str, bytes]
) -> None:
    publish(pages, model("org/there", FIRST))
    listed = watchlist(tmp_path, {"hub": "org/gone"}, {"hub": "org/there"})
    lines = run_round(listed, settings, FakeLauncher())
    assert model_states(lines) == [("gone", "skipped"), ("there", "evaluated")]
    assert "no such model or revision" in lines[0].detail


def test_an_outage_of_the_hub_is_reported_and_starts_nothing_twice(
    tmp_path: Path, settings: Settings, pages: dict[str, bytes], endpoint: str
) -> None:
    saved_model(tmp_path / "local")
    publish(pages, model("org/name", FIRST))
    listed = watchlist(tmp_path, {"hub": "org/name"}, {"hub": "org/other"}, {"model": "local"})
    worker = FakeLauncher(flow_run="f")
    del pages["/api/models/org/name"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(constants, "HF_HUB_OFFLINE", True)
        lines = run_round(listed, settings, worker)
    assert [line.state for line in lines] == [
        EvaluationState.unreachable,
        EvaluationState.unreachable,
        EvaluationState.started,
    ]
    assert "the next round retries" in lines[0].detail
    publish(pages, model("org/name", FIRST))
    assert model_states(run_round(listed, settings, worker))[-1] == ("name", "started")
    # While the hub does not answer, attempts in flight are kept.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(revisions, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
        assert [line.state for line in run_round(listed, settings, worker)] == [
            EvaluationState.unreachable,
            EvaluationState.unreachable,
            EvaluationState.in_flight,
        ]
    assert model_states(run_round(listed, settings, worker))[-2:] == [
        ("name", "in flight"),
        ("local", "in flight"),
    ]
    assert worker.models == ["local", "name"]
    assert len(attempt_log.read_attempts(settings.lake)) == 2
    assert endpoint


def test_the_flow_ends_as_hub_not_reached_and_lists_the_open_evaluations(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_model(tmp_path / "local")
    listed = watchlist(tmp_path, {"hub": "org/name"}, {"model": "local"})
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(flow_module, "run_logger", logging.getLogger)
    monkeypatch.setattr(flow_module, "create_table_artifact", lambda **given: shown.append(given))
    monkeypatch.setattr(flow_module, "DeploymentLauncher", lambda: FakeLauncher(flow_run="f"))
    state = flow_module.watch.fn(listed.path, settings)
    assert (state.name, state.message) == ("HubNotReached", "1 started, 1 hub not reached")
    assert [row["state"] for row in shown[0]["table"]] == ["hub not reached", "started"]
    nothing = flow_module.watch.fn(watchlist(tmp_path).path, settings)
    assert (nothing.name, len(shown)) == ("Completed", 1)
