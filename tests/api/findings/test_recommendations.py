"""A recommendation at the command line, over HTTP and in the report."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from prunelake.analysis.analyse import analyse
from prunelake.api.findings.wording import MISSING
from prunelake.api.report.document import write_report
from prunelake.cli.app import app
from prunelake.lake.publish import publish
from tests.support.api.api_client import api_client
from tests.support.recommendations import BAD, UNEXPLAINED, UNSURE, two_orders
from tests.support.runs.criteria_runs import compared_run
from tests.support.runs.example_runs import published_run


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = two_orders(tmp_path_factory.mktemp("lake"))
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


def test_a_tick_needs_every_task_and_a_missing_measurement_has_a_dash(tmp_path: Path) -> None:
    compared_run(tmp_path, "one", {1: {}, 2: {}, 3: UNEXPLAINED}, task="one", model="m/small")
    compared_run(
        tmp_path, "two", {1: {}, 2: UNEXPLAINED, 3: UNEXPLAINED}, task="two", model="m/small"
    )
    text = printed(tmp_path)
    rows = {line.split()[0]: line.split() for line in text.splitlines() if re.match(r" +\d ", line)}
    assert rows["1"][-4:] == ["0.010", "✓", "0.010", "✓"]
    assert " ".join(rows["2"][-10:]) == "0.010 (1 of 2 tasks) 0.010 (1 of 2 tasks)"
    assert rows["3"][-2:] == [MISSING, MISSING]
    assert "level 2 was not explained on two; level 3 was not explained on one and two" in text


def test_an_answer_takes_at_most_120_words_before_the_evidence(tmp_path: Path) -> None:
    bad = dict.fromkeys(("accuracy", "ece", "comprehensiveness", "sufficiency"), BAD)
    for task in ("first_task", "second_task", "third_task"):
        for seed in range(4):
            name = f"{task}{seed}"
            compared_run(
                tmp_path,
                name,
                {1: bad, 2: bad},
                task=task,
                strategy=f"random:{seed}",
                removal_order=[seed, *(set(range(8)) - {seed})],
                recalibrated={1: BAD, 2: UNSURE},
                model="m/small",
            )
    text = printed(tmp_path, "--budget", "removed_layers>=1, removed_share<=0.9")
    before = text[: text.index(" order, float32")]
    assert "none. In the random:0 order, level 1 fails: accuracy on first_task" in before
    assert len(before.split()) <= 120


def printed(lake: Path, *options: str) -> str:
    result = CliRunner().invoke(
        app,
        ["recommend", "--lake", str(lake), "--model", "small", *options],
        env={"COLUMNS": "200"},
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_answers_evidence_and_changes(lake: Path) -> None:
    text = printed(lake)
    assert "small on demo\nbudget: none; margins: accuracy 0.02, ECE 0.02, explanations" in text
    assert "Without recalibration: remove 2 of 8 attention layers" in text
    assert "With recalibrated confidence (temperature): " in text
    rows = [line.split() for line in text.splitlines() if re.match(r" +\d ", line)]
    assert rows[1][:5] == ["2", "0.015", "✓", "0.012", "✓"]
    assert rows[2][:5] == ["3", "0.015", "✓", "0.034", "✗"]
    assert rows[2][-4:] == ["0.012", "✓", "0.062", "✗"]
    assert "level 3 would pass with a margin of 0.034" in text
    assert "within the one-sided 97.5 % interval" in text
    assert "is chosen after seeing the results" in text


def test_the_caveats_name_omitted_criteria(lake: Path, client: TestClient) -> None:
    text = printed(lake, "--criteria", "accuracy,calibration", "--margin", "0.05")
    assert "margins: accuracy 0.05, ECE 0.05\n" in text
    assert (
        "Without recalibration, by accuracy and calibration alone: remove 3 of 8 attention layers"
        in text
    )
    assert "Not tested, so not shown to be harmless: comprehensiveness and sufficiency." in text
    heads = {" ".join(line.split()) for line in text.splitlines() if "removed accuracy" in line}
    assert heads == {"removed accuracy ECE recalibrated ECE"}
    answer = got(client, model="small", criteria="accuracy,calibration", margin=0.05)
    assert answer["criteria"] == ["accuracy", "calibration"]
    assert answer["as_it_is"]["level"] == 3


def test_a_budget_has_a_column_and_none_is_a_valid_answer(lake: Path) -> None:
    text = printed(lake, "--budget", "removed_share>=0.3")
    assert "budget: removed_share>=0.3" in text
    assert "Without recalibration: none." in text
    (line,) = (line for line in text.splitlines() if re.match(r" +3 ", line))
    assert line.split()[1] == "0.38"


def test_the_command_refuses_invalid_options(lake: Path) -> None:
    for option, value in (("--calibration", "magic"), ("--format", "csv"), ("--margin", "wide")):
        result = CliRunner().invoke(
            app, ["recommend", "--lake", str(lake), "--model", "small", option, value]
        )
        assert result.exit_code == 2
        assert f"'{option}'" in result.stderr


def got(client: TestClient, **parameters: Any) -> Any:
    answer = client.get("/recommendations", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_route_answers_as_the_command_does(lake: Path, client: TestClient) -> None:
    options: dict[str, Any] = {"model": "small", "budget": "removed_layers>=2", "margin": 0.05}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = CliRunner().invoke(
        app, ["recommend", "--lake", str(lake), "--format", "json", *arguments]
    )
    assert got(client, **options) == json.loads(command.stdout)
    answer = client.get("/recommendations", params=options)
    assert answer.headers["etag"]
    again = client.get(
        "/recommendations", params=options, headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304


def test_the_route_returns_the_evidence_and_the_sentences(client: TestClient) -> None:
    answer = got(client, model="small", task="demo")
    assert answer["as_it_is"]["level"] == 2
    assert answer["as_it_is"]["removed"] == [1, 3]
    assert answer["recalibrated"]["calibrator"] == "temperature"
    assert answer["sentences"][0].startswith("Without recalibration: remove 2 of 8")
    assert answer["changes"]
    assert answer["caveats"]
    cosine = answer["as_it_is"]["candidates"][0]
    assert [level["is_reached"] for level in cosine["levels"]] == [True, True, False]
    check = cosine["levels"][2]["checks"][1]
    assert (check["criterion"], check["is_met"], check["n_needed"]) == ("calibration", False, 4640)


@pytest.mark.parametrize(
    ("parameters", "status", "code", "words"),
    [
        ({}, 422, "invalid_request", "model: Field required"),
        ({"model": "absent"}, 404, "not_found", "no run of model 'absent'"),
        ({"model": "small", "task": "rte"}, 404, "not_found", "was not evaluated on rte"),
        ({"model": "small", "budget": "price<3"}, 422, "invalid_request", "no cost 'price'"),
        ({"model": "small", "budget": "speedup>=1.2"}, 404, "nothing_to_show", "never measured"),
        ({"model": "small", "criteria": "speed"}, 422, "invalid_request", "criterion 'speed'"),
        ({"model": "small", "margin": "nan"}, 422, "invalid_request", "margin: Input should be"),
        ({"model": "small", "calibration": "auroc"}, 422, "invalid_request", "'ece', 'smooth_ece'"),
        (
            {"model": "small", "margn": "0.1"},
            422,
            "invalid_request",
            "margn: no such parameter; /recommendations takes model, task,",
        ),
    ],
)
def test_errors_of_the_route_have_the_common_shape(
    client: TestClient, parameters: dict[str, str], status: int, code: str, words: str
) -> None:
    answer = client.get("/recommendations", params=parameters)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert words in error["message"]


def section(lake: Path, out: Path) -> str:
    """The text of the report's section, without tags."""
    write_report(lake, out)
    source = out.read_text(encoding="utf-8").partition("<h2>Recommendations</h2>")[2]
    return unescape(" ".join(re.sub("<.*?>", " ", source.partition("<h2>")[0]).split()))


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the charts, which take most of a report's time."""
    monkeypatch.setattr("prunelake.api.report.run_section.CHARTS", {})


@pytest.mark.usefixtures("without_charts")
def test_the_report_states_the_recommendation_in_plain_words(lake: Path, tmp_path: Path) -> None:
    text = section(lake, tmp_path / "report.html")
    assert "small On demo; margins: accuracy 0.02, ECE 0.02, explanations 0.02." in text
    assert "You can remove 2 of 8 attention layers in the cosine order from small (layers" in text
    table = text.partition("Level 2 of the cosine order and the unpruned model")[2]
    head = "criterion unpruned pruned worse by at most margin harmless "
    row = f"{head}right answers, as a share accuracy, demo 0.500 0.500 0.000 0.015 0.02 shown"
    assert row in table
    assert (
        "What would change the answer Without recalibration, in the cosine order, level 3" in table
    )
    assert "Limits of the answer A level passes if" in table


@pytest.mark.usefixtures("without_charts")
def test_the_report_says_to_remove_nothing_and_shows_the_failed_checks(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", {1: {"ece": BAD}, 2: {}}, model="frail")
    published_run(tmp_path, model="table")
    text = section(tmp_path, tmp_path / "report.html")
    assert (
        "Remove nothing from frail yet. In the cosine order, level 1 is not shown to keep ECE."
    ) in text
    assert "Level 1 of the cosine order and the unpruned model" in text
    assert "its accuracy ECE, demo 0.500 0.550 0.050 0.060 0.02 not shown" in text
    assert "table" not in text.split("margins:")[0]  # nothing is known of it


@pytest.mark.usefixtures("without_charts")
def test_a_report_without_recommendations_has_no_such_section(tmp_path: Path) -> None:
    published_run(tmp_path)
    assert section(tmp_path, tmp_path / "report.html") == ""
