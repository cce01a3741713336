"""The text of a recommended level: its changes, or the command that measures it."""

from pathlib import Path

from prunelake.api.findings.recommendations.texts import text_sentences
from prunelake.lake.sql import views
from prunelake.recommend.recommendation import Recommendation, recommend
from prunelake.recommend.request import RecommendationRequest
from prunelake.recommend.texts import TextEvidence, text_evidence
from tests.support.runs.criteria_runs import compared_run
from tests.support.runs.lake_rows import prediction, run_row, text, write


def recommendation(lake: Path) -> Recommendation:
    with views.connect(lake) as connection:
        return recommend(connection, RecommendationRequest(model="tiny"))


def test_a_level_without_texts_says_so_with_the_command_that_measures_them(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}})
    found = recommendation(tmp_path)
    assert text_sentences(found) == [
        "The text of level 1 was not measured; it may be worse although all criteria pass. To "
        "measure it: prunelake sweep --model tiny --task demo --text-rows 20"
    ]


def test_no_level_has_no_text(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {"accuracy": (0.5, 0.1)}})
    found = recommendation(tmp_path)
    assert found.as_it_is.texts == TextEvidence()
    assert text_sentences(found) == []


def test_measured_texts_stand_beside_those_of_level_0(tmp_path: Path) -> None:
    run = run_row("run")
    run_id = str(run["run_id"])
    names = [f"test:{n}" for n in range(4)]
    write(
        tmp_path,
        run,
        predictions=[prediction(run_id, k, name, [0.0, -2.0]) for k in (0, 1) for name in names],
        texts=[
            text(run_id, k, name, [k + 1, *[3] * 7], prompt_nll=8.0 + 4 * k + n)
            for k in (0, 1)
            for n, name in enumerate(names)
        ],
    )
    with views.connect(tmp_path) as connection:
        evidence = text_evidence(connection, [run_id], 1, None)
    assert evidence.commands == ()
    perplexity, repetition = evidence.changes
    assert (perplexity.metric, repetition.metric) == ("perplexity", "repetition")
    assert (perplexity.n, perplexity.task) == (4, "demo")
    assert perplexity.unpruned_value is not None
    assert perplexity.value is not None
    assert perplexity.delta == perplexity.value - perplexity.unpruned_value
    assert repetition.value == repetition.unpruned_value == 1 - 2 / 5
    compared_run(tmp_path / "other", "run", {1: {}})
    found = recommendation(tmp_path / "other")
    answer = found.as_it_is.model_copy(update={"texts": evidence})
    found = found.model_copy(update={"as_it_is": answer, "recalibrated": answer})
    (sentence,) = text_sentences(found)
    assert sentence.startswith(
        "The text of level 1 on demo (4 prompts), which no criterion tests: perplexity 10.75 to "
        "29.22 (change "
    )
    assert sentence.endswith("; repetition 0.600 to 0.600.")
