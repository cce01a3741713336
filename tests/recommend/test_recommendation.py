"""Recommendations from given criteria: the level, the removal order, and the errors."""

import datetime
import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm, t

from prunelake.analysis.statistics import tango_interval
from prunelake.errors import InvalidRequest, NotFound, NothingToShow, PruneLakeError
from prunelake.recommend.request import Margins, parse_criteria
from tests.support.recommendations import no_level_reason, plain_answer, recommendation
from tests.support.runs.criteria_runs import CRITERIA, Loss, compared_run
from tests.support.runs.example_runs import published_run
from tests.support.runs.lake_rows import run_row, write_raw

BAD: Loss = (0.05, 0.01)
UNSURE: Loss = (0.01, 0.02)
LATER = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)
UNEXPLAINED: dict[str, Loss] = {"comprehensiveness": None, "sufficiency": None}


def test_the_deepest_level_before_the_first_failure_is_recommended(tmp_path: Path) -> None:
    run_id = compared_run(tmp_path, "run", {1: {}, 2: {}, 3: {"ece": UNSURE}, 4: {}})
    answer = plain_answer(tmp_path)
    assert (answer.strategy, answer.level, answer.calibrator) == ("cosine", 2, None)
    assert answer.run_ids == (run_id,)
    assert answer.removed == (1, 3)  # the first two of the order, ascending
    assert answer.costs == {"removed_layers": 2, "removed_share": 0.25}
    assert answer.candidate is answer.candidates[0]
    (candidate,) = answer.candidates
    assert candidate.first_failed_level is not None
    assert candidate.first_failed_level.level == 3
    (failure,) = candidate.first_failed_level.failures
    assert (failure.criterion, failure.loss, failure.n) == ("calibration", 0.01, 400)
    assert failure.loss_bound == pytest.approx(0.03)
    assert failure.n_needed == 3651  # half the width, and a quantile of 80 %


@pytest.mark.parametrize("metric", CRITERIA)
def test_a_failure_of_any_criterion_prevents_a_recommendation(tmp_path: Path, metric: str) -> None:
    compared_run(tmp_path, "run", {1: {metric: BAD}, 2: {}})
    answer = plain_answer(tmp_path)
    assert (answer.strategy, answer.level, answer.removed, answer.costs) == (None, None, (), {})
    assert answer.candidate is None
    assert no_level_reason(tmp_path) == "quality"


def test_a_margin_of_one_criterion_does_not_affect_the_others(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {"ece": BAD}, 2: {"ece": BAD, "accuracy": BAD}})
    assert plain_answer(tmp_path, margins=Margins.with_default(0.02, calibration=0.07)).level == 1
    assert plain_answer(tmp_path, margins=Margins.with_default(0.07)).level == 2
    assert (
        plain_answer(tmp_path, margins=Margins.with_default(0.07, faithfulness=0.005)).level is None
    )


def test_every_task_must_pass_at_the_same_level(tmp_path: Path) -> None:
    compared_run(tmp_path, "one", {1: {}, 2: {}, 3: {}, 4: {}}, task="one")
    compared_run(tmp_path, "two", {1: {}, 3: {}, 4: {"ece": BAD}}, task="two")
    result = recommendation(tmp_path)
    assert result.tasks == ("one", "two")
    assert result.as_it_is.level == 3
    assert plain_answer(tmp_path, tasks=("one",)).level == 4
    # Level 2 was not evaluated on both tasks.
    assert plain_answer(tmp_path, "removed_layers<=2").level == 1


def test_an_order_that_lacks_a_task_is_not_recommended(tmp_path: Path) -> None:
    compared_run(tmp_path, "one", {1: {}}, task="one")
    compared_run(tmp_path, "two", {1: {}}, task="two")
    compared_run(tmp_path, "deep", {1: {}, 2: {}}, task="one", strategy="last")
    answer = plain_answer(tmp_path)
    assert (answer.strategy, answer.level) == ("cosine", 1)
    assert [(c.strategy, c.reason) for c in answer.candidates][1] == ("last", "task_missing")
    assert plain_answer(tmp_path, tasks=("one",)).strategy == "last"


def test_runs_with_different_orders_are_different_candidates(tmp_path: Path) -> None:
    for task, order in (("one", [0, 1, 2, 3]), ("two", [3, 2, 1, 0])):
        compared_run(tmp_path, task, {1: {}}, task=task, removal_order=order, strategy="divergence")
    answer = plain_answer(tmp_path)
    assert answer.level is None
    assert [c.reason for c in answer.candidates] == ["task_missing", "task_missing"]


def test_the_order_that_removes_most_layers_is_recommended(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", {1: {}, 2: {}, 3: {"ece": BAD}})
    compared_run(tmp_path, "b", {1: {}, 2: {}, 3: {}}, strategy="last")
    result = recommendation(tmp_path)
    assert (result.as_it_is.strategy, result.as_it_is.level) == ("last", 3)
    assert result.candidate_count == 2


def test_several_orders_are_tested_at_a_smaller_error_rate(tmp_path: Path) -> None:
    close: Loss = (0.003, 0.016)  # its one-sided 97.5 % interval ends above 0.02
    compared_run(tmp_path, "a", {1: {}, 2: {"sufficiency": close}, 3: {}})
    alone = recommendation(tmp_path)
    assert (alone.as_it_is.level, alone.order_count, alone.error_rate) == (3, 1, 0.05)
    compared_run(tmp_path, "b", {1: {}}, strategy="last")
    both = recommendation(tmp_path)
    assert (both.as_it_is.level, both.order_count, both.error_rate) == (1, 2, 0.025)
    candidate = both.as_it_is.candidates[0]
    assert [level.is_met for level in candidate.levels] == [True, False, True]
    assert [level.is_reached for level in candidate.levels] == [True, False, False]
    (failure,) = candidate.level_at(2).failures
    error = 0.016 / t.ppf(0.95, 399)
    bound = 0.003 + t.ppf(0.975, 399) * error
    assert failure.loss_bound == pytest.approx(bound)
    reach = bound - 0.003 + norm.ppf(0.8) * error
    assert failure.n_needed == math.ceil(400 * (reach / 0.017) ** 2)
    # The interval of accuracy is Tango's, for 4 lost and 4 won examples, or nearly so many.
    (accuracy,) = (c for c in candidate.level_at(1).checks if c.criterion == "accuracy")
    assert accuracy.loss_bound == pytest.approx(-tango_interval(3, 3, 400, 0.95)[0])


def test_an_order_that_cannot_be_recommended_costs_no_error_rate(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", {1: {}, 2: {}})
    compared_run(tmp_path, "deep", {3: {}}, strategy="last")
    compared_run(tmp_path, "unexplained", {1: UNEXPLAINED}, strategy="random:1")
    assert recommendation(tmp_path).order_count == 2
    assert recommendation(tmp_path, "removed_layers<=2").order_count == 1
    assert recommendation(tmp_path, "removed_layers>=9").order_count == 1


def test_criteria_can_be_left_out(tmp_path: Path) -> None:
    levels = {1: {"comprehensiveness": BAD}, 2: UNEXPLAINED, 3: {"ece": BAD}, 4: {}}
    compared_run(tmp_path, "run", levels)
    compared_run(tmp_path, "larger", {0: UNEXPLAINED, 1: UNEXPLAINED}, n=500, strategy="last")
    compared_run(tmp_path, "explained", {1: {}}, n=400, strategy="last")
    assert plain_answer(tmp_path).strategy == "last"
    result = recommendation(tmp_path, criteria=parse_criteria("calibration, accuracy"))
    assert (result.as_it_is.strategy, result.as_it_is.level) == ("cosine", 2)
    assert {c.criterion for c in result.as_it_is.candidates[0].level_at(1).checks} == {
        "accuracy",
        "calibration",
    }
    # Without explanations among the criteria, the run with the most examples counts.
    assert {c.n for c in result.as_it_is.candidates[1].level_at(1).checks} == {500}
    only = recommendation(tmp_path, criteria=parse_criteria("accuracy"))
    assert only.as_it_is.level == 4
    with pytest.raises(InvalidRequest, match="criterion 'speed': choose some of accuracy, cali"):
        parse_criteria("accuracy,speed")


def test_a_sweep_with_more_rows_settles_an_inconclusive_level(tmp_path: Path) -> None:
    unsure = {"ece": UNSURE, "sufficiency": (0.0, 0.03)}
    compared_run(tmp_path, "unsure", {1: unsure})
    compared_run(tmp_path, "deep", {1: {"ece": UNSURE, "accuracy": BAD}}, strategy="last")
    cosine, last = plain_answer(tmp_path).candidates
    # 400 x ((1.9659 + 0.8416) x 0.03 / 1.6487 / 0.02)^2 explained rows, rounded up.
    assert cosine.settled_by == (
        "prunelake sweep --model tiny --task demo --rows 4700 --explain-rows 2700",
    )
    assert last.settled_by == ()  # a margin is exceeded already


def test_among_equal_levels_the_smaller_loss_of_calibration_decides(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", {1: {"ece": (0.005, 0.01)}})
    compared_run(tmp_path, "b", {1: {"ece": (0.001, 0.014)}}, strategy="last")
    assert plain_answer(tmp_path).strategy == "last"


def test_the_run_with_the_most_explained_examples_counts_whatever_its_results(
    tmp_path: Path,
) -> None:
    compared_run(tmp_path, "plain", {1: {}, 2: {}}, n=500, created_at=LATER)
    explained = compared_run(tmp_path, "more", {1: {"ece": BAD}}, n=600)
    levels = {0: UNEXPLAINED, 1: UNEXPLAINED}
    compared_run(tmp_path, "latest", levels, n=900, created_at=LATER)
    result = recommendation(tmp_path)
    assert result.as_it_is.candidates[0].run_ids == (explained,)
    assert result.as_it_is.level is None


def test_levels_without_explanations_are_not_recommended(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: UNEXPLAINED, 2: {}, 3: UNEXPLAINED})
    assert plain_answer(tmp_path).level == 2
    assert no_level_reason(tmp_path, "removed_layers>=3") == "not_tested"


def test_recalibration_can_make_a_level_pass(tmp_path: Path) -> None:
    levels = {1: {}, 2: {"ece": BAD}, 3: {}, 4: {"accuracy": BAD}}
    recalibrated: dict[int, Loss] = dict.fromkeys(levels, (-0.05, 0.01))
    compared_run(tmp_path, "run", levels, recalibrated=recalibrated)
    result = recommendation(tmp_path)
    assert (result.as_it_is.level, result.recalibrated.level) == (1, 3)
    assert result.recalibrated.calibrator == "temperature"
    assert plain_answer(tmp_path, "removed_layers>=2").level is None
    assert recommendation(tmp_path, "removed_layers>=2").recalibrated.level == 3


def test_recalibration_can_make_a_level_fail(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}, 2: {}}, recalibrated={1: (0.0, 0.01), 2: BAD})
    result = recommendation(tmp_path)
    assert (result.as_it_is.level, result.recalibrated.level) == (2, 1)


def test_only_the_latest_revision_of_a_model_counts(tmp_path: Path) -> None:
    compared_run(tmp_path, "old", {1: {}, 2: {}}, revision="1" * 40, task="older")
    compared_run(tmp_path, "new", {1: {}}, revision="2" * 40, created_at=LATER)
    result = recommendation(tmp_path)
    assert (result.revision, result.tasks, result.as_it_is.level) == ("2" * 40, ("demo",), 1)


def test_a_model_is_named_by_its_reference_or_the_last_part_of_it(tmp_path: Path) -> None:
    compared_run(tmp_path, "a", {1: {}}, model="hub:org/small")
    for name in ("hub:org/small", "small"):
        assert recommendation(tmp_path, model=name).model == "hub:org/small"
    compared_run(tmp_path, "b", {1: {}}, model="/models/small/")
    assert recommendation(tmp_path, model="hub:org/small").model == "hub:org/small"
    with pytest.raises(
        NotFound, match="'small' is ambiguous; choose /models/small/ or hub:org/small"
    ):
        recommendation(tmp_path, model="small")


@pytest.mark.parametrize(
    ("question", "kind", "words"),
    [
        ({"model": "absent"}, NotFound, "no run of model 'absent'; the lake has tiny"),
        ({"tasks": ("demo", "rte")}, NotFound, "tiny was not evaluated on rte; the lake has demo"),
        ({"calibrator": "magic"}, NotFound, "no calibrator 'magic'; there are temperature"),
        ({"device": "abacus"}, NotFound, "no cost of tiny was measured on 'abacus'"),
        (
            {"budget": "removed_layers>=1, kv_share<=0.9"},
            NothingToShow,
            "budget term 'kv_share<=0.9': kv_share was never measured for tiny; `prunelake profile "
            "--model tiny --strategy cosine` measures it",
        ),
    ],
)
def test_the_error_is_one_clear_line(
    tmp_path: Path, question: dict[str, Any], kind: type[PruneLakeError], words: str
) -> None:
    compared_run(tmp_path, "run", {1: {}}, recalibrated={1: (0.0, 0.01)})
    with pytest.raises(kind) as raised:
        recommendation(tmp_path, **question)
    assert str(raised.value).startswith(words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("margin", [0.0, -0.02, float("nan"), float("inf")])
def test_a_margin_must_be_above_0_and_finite(margin: float) -> None:
    with pytest.raises(InvalidRequest, match=r"margin of accuracy: .* is not above 0"):
        Margins.with_default(margin)
    with pytest.raises(InvalidRequest, match="margin of faithfulness: "):
        Margins.with_default(0.02, faithfulness=margin)


def test_published_values_and_unpruned_runs_allow_no_recommendation(tmp_path: Path) -> None:
    published_run(tmp_path, model="published")
    with pytest.raises(NothingToShow, match="published has no examples in the lake"):
        recommendation(tmp_path, model="published")
    write_raw(tmp_path, run_row("whole", levels=[0], model="whole"))
    with pytest.raises(NothingToShow, match="whole: no pruned level was evaluated"):
        recommendation(tmp_path, model="whole")


def test_the_error_of_an_empty_lake_gives_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no run of model 'tiny'; sweep or import it first"):
        recommendation(tmp_path)


def test_a_sweep_of_level_0_alone_is_no_candidate(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"strategy": "comparison", "removal_order": [], "layer_count": None}
    compared_run(tmp_path, "source", {}, strategy="last", task="other")
    compared_run(tmp_path, "a", {1: {}}, labels={0: "fp16", 1: "int8"}, **columns)
    found = recommendation(tmp_path)
    assert [candidate.label for candidate in found.as_it_is.candidates] == ["int8"]
    assert found.tasks == ("demo",)
