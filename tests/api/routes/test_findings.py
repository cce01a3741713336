"""The findings on a run, and its examples side by side, over HTTP."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from prunelake.analysis.analyse import analyse
from prunelake.api.findings import sentences
from prunelake.api.findings.headline import headline
from prunelake.api.queries import run_metrics, runs
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from tests.support.api.api_client import api_client
from tests.support.runs.example_runs import explained_run
from tests.support.runs.lake_rows import attribution, example, prediction, run_row, write

NEWER = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
ODD = "rows/7 of 9?"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An older and a newer run of one model and task, a run of another task, and a small run."""
    folder = tmp_path_factory.mktemp("lake")
    explained_run(folder, "older", model="hub:org/alpha", task="boolq")
    explained_run(folder, "newer", model="hub:org/alpha", task="boolq", created_at=NEWER)
    explained_run(folder, "random", model="hub:org/alpha", task="rte", strategy="random:1")
    run = run_row("made", model="/models/made/", task="sst2", example_count=2, levels=[0, 1])
    run_id = str(run["run_id"])
    write(
        folder,
        run,
        examples=[
            example(run_id, "plain", position=0),
            example(run_id, ODD, position=1, prompt_tokens=["Is", "<b>", "?"]),
        ],
        predictions=[
            prediction(run_id, 0, "plain", [-1.0, -2.0]),
            prediction(run_id, 1, "plain", [-1.0, -2.5]),
            prediction(run_id, 0, ODD, [-1.0, -3.0]),
            prediction(run_id, 1, ODD, [-3.0, -1.0]),
        ],
        attributions=[
            attribution(run_id, 0, ODD, [0.5, -0.25, 0.0], seed=0),
            attribution(run_id, 0, ODD, [1.5, 0.75, 1.0], seed=1),
            attribution(run_id, 1, ODD, [2.0, 0.0, -1.0], seed=0),
            attribution(run_id, 0, ODD, [9.0, 9.0, 9.0], method="kernel_shap"),
            attribution(run_id, 0, ODD, [7.0, 7.0, 7.0], method="random"),
        ],
    )
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


def run_named(name: str) -> str:
    return str(run_row(name)["run_id"])


def got(client: TestClient, path: str, **parameters: Any) -> Any:
    answer = client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"model": "hub:org/alpha", "task": "boolq"}, "newer"),
        ({"model": "alpha", "task": "boolq"}, "newer"),
        ({"model": "alpha", "strategy": "random:1"}, "random"),
        ({"model": "made"}, "made"),
        ({"run_id": run_named("older")}, "older"),
        ({}, "newer"),
    ],
)
def test_the_latest_matching_run_is_chosen(
    client: TestClient, asked: dict[str, str], name: str
) -> None:
    assert got(client, "/findings", **asked)["run_id"] == run_named(name)


def test_the_error_without_such_a_run_id_says_so(client: TestClient) -> None:
    for path, message in (
        ("/findings?run_id=x", "no run 'x'; GET /models lists the runs"),
        ("/findings?run_id=x&task=rte", "no run 'x' of task 'rte'; GET /models lists the runs"),
        ("/examples/x", "no run 'x'; GET /models lists the runs"),
    ):
        error = client.get(path).json()["error"]
        assert error["message"] == message
        assert error["choices"]


def test_an_unknown_parameter_names_the_known_parameters(client: TestClient) -> None:
    error = client.get("/findings?levle=1").json()["error"]
    known = ["run_id", "model", "task", "strategy", "level", "metric"]
    assert error["message"] == f"levle: no such parameter; /findings takes {', '.join(known)}"
    assert error["choices"] == known
    body = client.post("/sql", json={"query": "select 1", "limit": 1}).json()["error"]
    assert body["choices"] == ["query", "format", "max_rows", "max_seconds"]


def test_the_error_without_a_matching_run_names_the_runs(client: TestClient) -> None:
    answer = client.get("/findings", params={"model": "beta", "task": "boolq"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert "no run of model 'beta', task 'boolq'; GET" in error["message"]
    assert f"hub:org/alpha, boolq, cosine, {run_named('older')}" in error["choices"]


def test_the_sentences_equal_the_report(lake: Path, client: TestClient) -> None:
    run_id = run_named("newer")
    with views.connect(lake) as connection:
        levels = run_metrics.headline_metrics([run_id]).rows(connection)
        uniform, majority = runs.guessing_accuracy(run_id).rows(connection).row(0)
        (run,) = runs.all_runs([run_id]).rows(connection).to_dicts()
    found = got(client, "/findings", run_id=run_id)
    assert found["outline"] == headline(run, levels)
    assert found["sentences"] == sentences.summary_sentences(levels)
    assert found["warnings"] == sentences.warnings(levels, uniform, majority)
    assert found["caveat"] == sentences.sample_size_note(levels)
    assert found["levels"] == [0, 1, 2]
    assert found["explained_by"] == ["kernel_shap", "delete_text", "eraser"]
    assert "ece" in found["metrics"]


def test_inconclusive_metrics_are_named_for_the_requested_level(client: TestClient) -> None:
    for level in (1, 2):
        found = got(client, "/findings", run_id=run_named("newer"), level=level)
        assert found["level"] == level
        assert f"Inconclusive at level {level}: " in found["sentences"][-1]


@pytest.mark.parametrize(("name", "value"), [("level", "9"), ("metric", "nonsense")])
def test_the_error_of_an_unknown_level_or_metric_names_the_choices(
    client: TestClient, name: str, value: str
) -> None:
    answer = client.get("/findings", params={"run_id": run_named("newer"), name: value})
    assert answer.status_code == 404
    assert answer.json()["error"]["choices"]


def test_the_most_changed_examples_come_first(client: TestClient) -> None:
    found = got(client, f"/examples/{run_named('made')}", level=1)
    assert [line["example_id"] for line in found["examples"]] == [ODD, "plain"]
    first = found["examples"][0]
    assert (first["flip_kind"], first["is_explained"]) == ("harmful", True)
    assert (first["unpruned_prediction"], first["prediction"]) == (0, 1)
    only = got(client, f"/examples/{run_named('made')}", level=1, limit=1)
    assert len(only["examples"]) == 1


def test_one_example_has_both_sides_and_the_mean_over_seeds(client: TestClient) -> None:
    found = got(client, f"/examples/{run_named('made')}/{ODD.replace('?', '%3F')}", level=1)
    assert (found["example_id"], found["task"], found["gold"]) == (ODD, "sst2", 0)
    assert found["methods"] == ["kernel_shap", "lime"]
    lime = got(
        client,
        f"/examples/{run_named('made')}/{ODD.replace('?', '%3F')}",
        level=1,
        method="lime",
    )
    assert lime["tokens"] == [
        {"token": "Is", "unpruned": 1.0, "pruned": 2.0},
        {"token": "<b>", "unpruned": 0.25, "pruned": 0.0},
        {"token": "?", "unpruned": 0.5, "pruned": -1.0},
    ]
    unpruned, pruned = lime["unpruned"], lime["pruned"]
    assert (unpruned["prediction"], unpruned["is_correct"]) == (0, True)
    assert (pruned["prediction"], pruned["is_correct"], pruned["level"]) == (1, False, 1)
    assert pruned["confidence"] == pytest.approx(1 / (1 + 2.718281828459045**-2))
    assert sum(pruned["probabilities"]) == pytest.approx(1)


def test_an_example_without_explanation_has_no_tokens(client: TestClient) -> None:
    found = got(client, f"/examples/{run_named('made')}/plain", level=1)
    assert (found["method"], found["methods"], found["tokens"]) == (None, [], [])
    assert found["unpruned"]["confidence"] is not None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("made/nonsense", "has no example 'nonsense'"),
        ("made/plain?method=lime", "not explained by 'lime'"),
        ("made/plain?level=5", "has no level 5"),
    ],
)
def test_unknown_examples_and_methods_are_named(client: TestClient, path: str, words: str) -> None:
    answer = client.get(f"/examples/{path.replace('made', run_named('made'))}")
    assert answer.status_code == 404
    assert words in answer.json()["error"]["message"]


def test_a_chart_names_its_sql_and_snapshot(lake: Path, client: TestClient) -> None:
    answer = client.get("/charts/confidence.json", params={"model": "alpha", "task": "boolq"})
    told = answer.json()["usermeta"]["prunelake"]
    assert told["snapshot"] == client.get("/health").json()["snapshot"]
    shown = views.query(lake, told["sql"]).filter(metric="accuracy")["value"].to_list()
    line = answer.json()["vconcat"][0]["layer"][-1]  # the first panel is accuracy
    drawn = answer.json()["datasets"][line["data"]["name"]]
    assert [row["value"] for row in drawn] == shown
    assert run_named("newer") in told["sql"]
