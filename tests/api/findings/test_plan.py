"""A plan in words, at the command line and over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from prunelake.analysis.analyse import analyse
from prunelake.cli.app import app
from prunelake.lake.publish import publish
from prunelake.spec import Explanation, Rows, SweepSpec
from tests.support.api.api_client import api_client
from tests.support.runs.criteria_runs import Loss, compared_run

UNSURE: Loss = (0.01, 0.03)
SPEC = SweepSpec(
    model="hub:org/small", task="demo", rows=Rows(sample=400), explain=Explanation(rows=400)
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake: a run with open questions, and one that decides everything."""
    folder = tmp_path_factory.mktemp("lake")
    for task, level in (("demo", {"ece": UNSURE, "sufficiency": UNSURE}), ("settled", {})):
        spec = SPEC.model_copy(update={"task": task}).model_dump_json()
        compared_run(folder, task, {1: {}, 2: level}, model="hub:org/small", task=task, spec=spec)
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


def test_the_api_answers_with_needs_cost_and_command(client: TestClient) -> None:
    answer = client.get("/plan", params={"model": "small", "task": "demo"}).json()
    assert answer["rows"] > 400
    assert {need["criterion"] for need in answer["needs"]} == {
        *("accuracy", "calibration", "comprehensiveness", "sufficiency")
    }
    rows, cost, command = answer["sentences"]
    assert rows.startswith("With a chance of 80\N{NO-BREAK SPACE}% for each verdict, ")
    assert "explained rows decide faithfulness at levels 1 and 2" in rows
    assert cost.startswith("The missing rows take about ")
    assert command == f"This sweep computes them: {answer['command']}"
    assert f"--rows sample:{max(answer['rows'], answer['explained_rows'])} " in answer["command"]


def test_margins_power_and_levels_reach_the_plan(client: TestClient) -> None:
    usual = client.get("/plan", params={"model": "small", "task": "demo"}).json()
    question = "model=small&task=demo&levels=2&calibration_margin=0.01&power=0.9"
    asked = client.get(f"/plan?{question}").json()
    assert {need["level"] for need in asked["needs"]} == {2}
    assert asked["rows"] > 4 * usual["rows"]


def test_no_rows_are_needed_if_everything_is_decided(client: TestClient) -> None:
    answer = client.get("/plan", params={"model": "small", "task": "settled"}).json()
    assert answer["sentences"] == ["The lake decides every criterion of small on settled."]


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("task=demo&strategy=magic", 422),
        ("task=demo&power=1", 422),
        ("task=demo&levels=a", 422),
        ("task=never", 404),
    ],
)
def test_invalid_questions_are_refused(client: TestClient, question: str, status: int) -> None:
    assert client.get(f"/plan?model=small&{question}").status_code == status


def test_the_command_prints_a_table_and_json(lake: Path, tmp_path: Path) -> None:
    question = ["plan", "--model", "small", "--task", "demo", "--lake", str(lake)]
    text = CliRunner().invoke(app, question).output
    assert "\N{CHECK MARK} (400)" in text
    assert "This sweep computes them: prunelake sweep --model" in text
    asked = json.loads(CliRunner().invoke(app, [*question, "--format", "json"]).output)
    assert asked["task"] == "demo"
    assert f": {asked['command']}\n" in text  # in one line, so that it can be copied
    empty = ["plan", "--levels", "2", "--lake", str(tmp_path / "none"), "--task", "opinions"]
    output = CliRunner().invoke(app, empty).output
    assert "is assumed" in output
    assert "The task has 500 rows, fewer than are needed. With all rows, a margin of" in output
    assert "--rows sample:500 " in output
    assert "The task has" not in CliRunner().invoke(app, [*empty, "--margin", "0.3"]).output
    refused = CliRunner().invoke(app, [*empty[:-1], "opinion"]).exception
    assert str(refused).startswith("unknown task 'opinion'; choose from ")
