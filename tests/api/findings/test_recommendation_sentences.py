"""A recommendation in words: the layers to remove, the reasons, and possible changes."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunelake.api.findings.recommendations.answer import answer_sentence
from prunelake.api.findings.recommendations.caveats import caveats
from prunelake.api.findings.recommendations.changes import next_commands, what_would_change
from prunelake.cli.app import app
from prunelake.spec import Explanation, SweepSpec
from tests.support.recommendations import BAD, UNEXPLAINED, recommendation, two_orders
from tests.support.runs.criteria_runs import Loss, compared_run
from tests.support.runs.profile_rows import profiled

found = partial(recommendation, model="small")


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_orders(tmp_path_factory.mktemp("lake"))


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
