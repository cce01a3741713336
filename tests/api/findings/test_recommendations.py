"""A recommendation in words, at the command line, over HTTP and in the report."""

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
from prunelake.api.findings.recommendations.answer import answer_sentence
from prunelake.api.findings.recommendations.caveats import caveats
from prunelake.api.findings.recommendations.changes import next_commands, what_would_change
from prunelake.api.findings.wording import MISSING
from prunelake.api.report.document import write_report
from prunelake.cli.app import app
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from prunelake.recommend.budget import parse_budget
from prunelake.recommend.recommendation import Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest
from prunelake.spec import Explanation, SweepSpec
from tests.support.api.api_client import api_client
from tests.support.runs.criteria_runs import Loss, compared_run
from tests.support.runs.example_runs import published_run
from tests.support.runs.profile_rows import profiled

BAD: Loss = (0.05, 0.01)
UNSURE: Loss = (0.01, 0.02)
UNEXPLAINED: dict[str, Loss] = {"comprehensiveness": None, "sufficiency": None}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published lake: two orders of one model, one of them with deeper levels."""
    folder = tmp_path_factory.mktemp("lake")
    levels = {1: {}, 2: {}, 3: {"ece": UNSURE, "sufficiency": BAD}}
    compared_run(folder, "a", levels, model="hub:org/small")
    compared_run(folder, "b", {1: {"accuracy": BAD}}, model="hub:org/small", strategy="mlp:last")
    publish(folder, analyse)
    return folder


@pytest.fixture(scope="module")
def client(lake: Path) -> Iterator[TestClient]:
    with api_client(lake) as client:
        yield client


def found(lake: Path, budget: str | None = None, model: str = "small") -> Recommendation:
    with views.connect(lake) as connection:
        return recommend(
            connection, RecommendationRequest(model=model, budget=parse_budget(budget))
        )


def said(lake: Path, budget: str | None = None, **question: Any) -> str:
    answer = found(lake, budget, **question)
    return answer_sentence(answer, answer.as_it_is)


def test_a_sentence_names_the_layers_to_remove(lake: Path) -> None:
    assert said(lake) == (
        "Without recalibration: remove 2 of 8 attention layers in the cosine order, layers 1, 3."
    )


def test_a_sentence_gives_the_reasons_for_no_removal(lake: Path, tmp_path: Path) -> None:
    text = said(lake, "removed_layers>=3")
    assert text == (
        "Without recalibration: none. In the cosine order, level 3 fails: ECE on demo may be worse "
        "by up to 0.030 (loss 0.010, margin 0.02); sufficiency on demo may be worse by up to 0.060 "
        "(loss 0.050, margin 0.02). 1 other removal order cannot be recommended either."
    )
    compared_run(tmp_path, "a", {1: {"ece": BAD}, 2: {}, 3: {}}, task="one")
    assert "removed_layers>=2 takes level 2 at least, but level 1 fails: ECE on one may" in said(
        tmp_path, "removed_layers>=2", model="tiny"
    )
    compared_run(tmp_path, "b", {1: {}}, task="two", strategy="last")
    text = " ".join(what_would_change(found(tmp_path, model="tiny")))
    assert "In the cosine order, no level was evaluated on two." in text
    assert "In the last order, no level was evaluated on one." in text


def explained_to_6(lake: Path, *profiled_levels: int, **columns: Any) -> None:
    """Levels 2 to 8 of 16 layers; level 8 is not explained. Level k decodes 1 + k/20 times as fast.

    Only some levels are profiled.
    """
    order: dict[str, Any] = {"layer_count": 16, "removal_order": [*range(16)], "model": "org/gappy"}
    spec = SweepSpec(
        model="org/gappy",
        task="demo",
        levels=(2, 4, 6, 8),
        explain=Explanation(rows=40, levels=(0, 2, 4, 6)),
    )
    levels: dict[int, dict[str, Loss]] = {2: {}, 4: {}, 6: {}, 8: dict(UNEXPLAINED)}
    levels[8] |= columns.pop("level_8", {})
    compared_run(lake, "run", levels, spec=spec.model_dump_json(), **order, **columns)
    if profiled_levels:
        decode = {level: [2 / (1 + level / 20)] * 3 for level in (0, *profiled_levels)}
        profiled(lake, decode=decode, **order)


PROFILE = "prunelake profile --model org/gappy --strategy cosine --levels 0,2,4,6,8"
EXPLAIN = "prunelake sweep --model org/gappy --task demo --levels 0,2,4,6,8 --explain-rows 40"


def test_a_missing_profile_and_missing_explanations_are_named_with_their_commands(
    tmp_path: Path,
) -> None:
    explained_to_6(tmp_path, 8)
    answer = found(tmp_path, "speedup>=1.2", model="gappy")
    assert answer_sentence(answer, answer.as_it_is) == (
        "Without recalibration: none. In the cosine order, the speedup of levels 2 to 6 was not "
        "measured; level 8 was not explained on demo."
    )
    assert next_commands(answer) == [f"{EXPLAIN} --explain-levels 0,2,4,6,8", PROFILE]
    assert (answer.as_it_is.candidates[0].reason, answer.as_it_is.level) == ("cost_unknown", None)
    # The command of the profile does change the answer.
    explained_to_6(tmp_path / "measured", 2, 4, 6, 8)
    assert found(tmp_path / "measured", "speedup>=1.2", model="gappy").as_it_is.level == 6


def test_levels_that_break_the_budget_have_no_gap(tmp_path: Path) -> None:
    explained_to_6(tmp_path, 2, 4, 6, 8)
    (candidate,) = found(tmp_path, "speedup>=1.35", model="gappy").as_it_is.candidates
    assert [(gap.kind, gap.levels) for gap in candidate.gaps] == [("explanations", (8,))]
    assert candidate.reason == "not_tested"
    (candidate,) = found(tmp_path, "speedup>=1.5", model="gappy").as_it_is.candidates
    assert (candidate.reason, candidate.gaps, candidate.closed_by) == ("over_budget", (), ())


def test_the_text_agrees_with_a_table_in_which_an_unexplained_level_fails(tmp_path: Path) -> None:
    explained_to_6(tmp_path, level_8={"accuracy": BAD})
    answer = found(tmp_path, model="gappy")
    assert answer.as_it_is.level == 6
    assert what_would_change(answer)[0] == (
        "Without recalibration, in the cosine order, levels 2 to 6 pass all criteria; level 8 "
        "fails: accuracy on demo may be worse by up to 0.060 (loss 0.050, margin 0.02); it was not "
        "explained on demo."
    )
    explained_to_6(tmp_path / "passing")
    text = " ".join(what_would_change(found(tmp_path / "passing", model="gappy")))
    assert "in the cosine order, level 8 was not explained on demo; levels 2 to 6 pass all" in text
    assert "To decide without explanations: --criteria accuracy,calibration." in text


def test_a_deeper_level_is_proposed_if_all_levels_pass(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}, 2: {}}, model="org/good")
    answer = found(tmp_path, model="good")
    assert answer.as_it_is.level == 2
    text = what_would_change(answer)
    assert text[0] == (
        "Without recalibration, in the cosine order, level 3 was not evaluated on demo; levels 1 "
        "and 2 pass all criteria."
    )
    assert text[-1] == "To settle it: prunelake sweep --model tiny --task demo --levels 0,1,2,3"


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


def test_other_units_have_their_own_names(tmp_path: Path) -> None:
    for unit, words in (("mlp", "2 of 8 MLPs"), ("block", "2 of 8 blocks")):
        compared_run(tmp_path, unit, {1: {}, 2: {}}, model=unit, strategy=f"{unit}:cosine")
        assert f"remove {words} in the {unit}:cosine order" in said(tmp_path, model=unit)


def test_a_change_that_is_named_does_change_the_answer(lake: Path) -> None:
    (cosine, *_) = what_would_change(found(lake))
    assert cosine == (
        "Without recalibration, in the cosine order, level 3 would pass with a margin of 0.034 "
        "for ECE on demo (loss 0.010), or about 4,700 examples instead of 400; a margin of 0.062 "
        "for sufficiency on demo (loss 0.050)."
    )
    run = CliRunner().invoke
    asked = ["recommend", "--lake", str(lake), "--model", "small", "--format", "json"]

    def level(*margins: str) -> int | None:
        answer: int | None = json.loads(run(app, [*asked, *margins]).stdout)["as_it_is"]["level"]
        return answer

    assert level("--calibration-margin", "0.034", "--faithfulness-margin", "0.062") == 3
    assert level("--calibration-margin", "0.033", "--faithfulness-margin", "0.062") == 2
    assert level("--calibration-margin", "0.034", "--faithfulness-margin", "0.061") == 2


def test_the_caveats_name_the_compared_orders_and_the_examples(lake: Path) -> None:
    text = " ".join(caveats(found(lake)))
    assert "upper end of the one-sided 97.5 % interval" in text
    assert (
        "The best of 2 removal orders is chosen after seeing the results, so each order is tested"
        in text
    )
    assert "The answers rest on 400 examples of demo (400 explained)" in text


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
