"""GET /metrics: its content, its format for monitors, and its access."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from prunelake.analysis.analyse import analyse
from prunelake.lake.attempt_log import Attempt, compare_and_swap
from prunelake.lake.files.paths import ATTEMPTS_FOLDER
from prunelake.lake.partial_runs import ComputeCost, PartialRun
from prunelake.lake.publish import publish
from prunelake.watch.status import STATUS_FOLDER, record_status
from tests.support.api.api_client import api_client
from tests.support.paths import ROOT
from tests.support.runs.example_runs import explained_run, judged_run

TOKEN = "s3cret-token"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder, "one", model='a "quoted"\\ model\n', task="first", forward_tokens=100)
    explained_run(folder, "two", model='a "quoted"\\ model\n', task="first", forward_tokens=50)
    judged_run(folder, model="judged", task="second", n=400)
    publish(folder, analyse)
    return folder


@pytest.fixture
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as found:
        yield found


@pytest.fixture
def sql_client(lake: Path) -> Iterator[TestClient]:
    with api_client(
        lake, sql=True, sql_processes=1, sql_max_seconds=30, sql_max_bytes=5000
    ) as found:
        yield found


def samples(client: TestClient) -> Samples:
    """All samples, as the monitor's own parser reads them."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_the_contents_of_the_snapshot_are_counted_by_model_and_task(client: TestClient) -> None:
    found = samples(client)
    model = 'a "quoted"\\ model\n'
    assert value(found, "prunelake_runs", model=model, task="first") == 2
    assert value(found, "prunelake_examples", model=model, task="first") == 8
    assert value(found, "prunelake_forward_tokens", model=model, task="first") == 150
    assert value(found, "prunelake_runs", model="judged", task="second") == 1
    assert value(found, "prunelake_analyses_missing", model="judged", task="second") == 0
    assert value(found, "prunelake_hidden_degradations", model=model, task="first") == 0
    told = client.get("/verdicts", params={"verdict": "hidden degradation"}).json()["rows"]
    hidden = value(found, "prunelake_hidden_degradations", model="judged", task="second")
    assert hidden == len(told) > 0
    snapshot = client.get("/health").json()["snapshot"]
    assert value(found, "prunelake_snapshot_info", id=snapshot) == 1
    assert 0 <= value(found, "prunelake_snapshot_age_seconds") < 3600


def test_answers_are_counted_by_route_and_status_including_cached_answers(
    client: TestClient,
) -> None:
    for path in ("/views/metrics", "/views/metrics", "/views/nothing", "/nowhere", "/health"):
        client.get(path)
    client.head("/health")
    client.request("BREW", "/health")
    found = samples(client)
    name = "prunelake_http_request_seconds_count"

    def count(route: str, status: int, method: str = "GET") -> float:
        return value(found, name, method=method, route=route, status=str(status))

    assert count("/views/metrics", 200) == 2
    assert count("/views/{name}", 404) == 1
    assert count("none", 404) == 1
    assert count("/health", 200) == 1
    assert count("/health", 200, "HEAD") == 1
    assert count("/health", 405, "other") == 1
    assert value(samples(client), name, method="GET", route="/metrics", status="200") == 1
    labels = {"method": "GET", "route": "/views/metrics", "status": "200"}
    assert value(found, "prunelake_http_request_seconds_bucket", **labels, le="+Inf") == 2
    assert value(found, "prunelake_http_request_seconds_sum", **labels) > 0


def test_sql_queries_are_counted_by_outcome(sql_client: TestClient) -> None:
    for query in ("select 1", "drop table runs", "select repeat('x', 10000) as text"):
        sql_client.post("/sql", json={"query": query})
    found = samples(sql_client)
    for outcome in ("answered", "invalid_sql", "limit_exceeded"):
        assert value(found, "prunelake_sql_queries_total", outcome=outcome) == 1


def attempt(key: str, state: str, number: int, retry_at: str | None = None) -> Attempt:
    return Attempt.model_validate(
        {
            "key": key * 16,
            "watchlist": "watchlist.yaml",
            "entry": "tiny",
            "model": "tiny",
            "revision": "0" * 40,
            "task": "first",
            "strategy": "cosine",
            "state": state,
            "number": number,
            "nonce": "1",
            "started_at": "2026-01-01T00:00:00Z",
            "retry_at": retry_at,
        }
    )


@pytest.fixture
def attempts(lake: Path) -> Iterator[Path]:
    """The folder of the lake's attempts: two failed, one of them parked; a third runs."""
    for tried in (
        attempt("a", "failed", 3),
        attempt("b", "failed", 1, retry_at="2026-01-02T00:00:00Z"),
        attempt("c", "running", 7),
    ):
        assert compare_and_swap(lake, None, tried)
    yield lake / ATTEMPTS_FOLDER
    shutil.rmtree(lake / ATTEMPTS_FOLDER)


def test_failed_evaluations_are_counted(attempts: Path, client: TestClient) -> None:
    found = samples(client)
    assert attempts.is_dir()
    assert value(found, "prunelake_evaluations_failing", parked="false") == 1
    assert value(found, "prunelake_evaluations_failing", parked="true") == 1
    assert value(found, "prunelake_evaluation_attempts", parked="false") == 1
    assert value(found, "prunelake_evaluation_attempts", parked="true") == 3
    assert value(found, "prunelake_evaluations_in_flight") == 1
    since = time.time() - datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    age = value(found, "prunelake_evaluation_in_flight_age_seconds")
    assert since - 3600 < age <= since


def test_the_last_round_the_last_check_and_unfinished_work_are_shown(
    lake: Path, client: TestClient
) -> None:
    assert "prunelake_watch_round_age_seconds" not in client.get("/metrics").text
    record_status(lake, "watch", 2)
    record_status(lake, "doctor", 3)
    partial_run = PartialRun(lake, "0123456789abcdef")
    try:
        partial_run.write_shard("000000-000003", {}, ComputeCost(1.0, 1.0, "cpu"))
        found = samples(client)
    finally:
        partial_run.delete()
        shutil.rmtree(lake / STATUS_FOLDER)
    assert value(found, "prunelake_watch_round_problems") == 2
    assert value(found, "prunelake_doctor_problems") == 3
    for name in ("watch_round", "doctor"):
        assert 0 <= value(found, f"prunelake_{name}_age_seconds") < 3600
    assert value(found, "prunelake_unfinished_runs") == 1
    assert value(found, "prunelake_unfinished_shards") == 1


def test_the_dashboard_shows_metrics_that_exist(
    lake: Path, attempts: Path, client: TestClient
) -> None:
    assert attempts.is_dir()
    for name in ("watch", "doctor"):
        record_status(lake, name, 0)
    client.get("/views")  # its request and its time are counted
    try:
        exposed = {name for name, _ in samples(client)}
    finally:
        shutil.rmtree(lake / STATUS_FOLDER)
    dashboard = json.loads((ROOT / "deploy/grafana/prunelake.json").read_text("utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    shown = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"prunelake_\w+", target["expr"])
    }
    assert shown <= exposed
    assert {
        "prunelake_watch_round_age_seconds",
        "prunelake_evaluation_in_flight_age_seconds",
        "prunelake_unfinished_shards",
        "prunelake_doctor_problems",
        "prunelake_snapshot_age_seconds",
    } <= shown
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len({*places}) == len(places)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_without_attempts_no_evaluation_fails(client: TestClient) -> None:
    assert value(samples(client), "prunelake_evaluations_failing", parked="true") == 0


def test_a_damaged_attempt_is_logged_and_the_other_metrics_remain(
    attempts: Path, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    (attempts / "half.json").write_text('{"attem')
    names = {name for name, _ in samples(client)}
    assert "prunelake_runs" in names
    assert not any(name.startswith("prunelake_evaluation") for name in names)
    assert "half.json" in caplog.text


def test_metrics_are_never_cached(client: TestClient) -> None:
    first, second = client.get("/metrics"), client.get("/metrics")
    assert first.headers["cache-control"] == "no-store"
    assert "etag" not in first.headers
    assert first.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert first.text != second.text
    assert client.head("/metrics").status_code == 200
    assert set(client.post("/metrics").headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_metrics_need_the_token_and_never_contain_it(lake: Path) -> None:
    with api_client(lake, caller="203.0.113.9", host="lake.example", token=TOKEN) as client:
        assert client.get("/metrics").status_code == 401
        client.get(f"/{TOKEN}", headers={"Authorization": f"Bearer {TOKEN}"})
        client.get("/metrics", params={"token": TOKEN})
        answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert 'route="/metrics",status="401"' in answer.text
    assert TOKEN not in answer.text


def test_a_server_without_a_snapshot_has_metrics(tmp_path: Path) -> None:
    with api_client(tmp_path) as client:
        assert client.get("/health").status_code == 503
        found = samples(client)
    name = "prunelake_http_request_seconds_count"
    assert value(found, name, method="GET", route="/health", status="503") == 1
    assert not any(name.startswith("prunelake_snapshot") for name, _ in found)
