"""Plans from given runs: the needs, the cost, the command and the errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from prunelake.analysis.power import PairedSpread, examples_for_changes_between
from prunelake.errors import InvalidRequest, NothingToShow
from prunelake.lake.sql.views import connect
from prunelake.planning.needs import CriterionNeed, VerdictPlan
from prunelake.planning.request import PlanRequest
from prunelake.planning.verdict_plan import plan_verdicts
from prunelake.recommend.request import Margins
from prunelake.spec import Explanation, Rows, SweepSpec
from tests.support.runs.criteria_runs import Loss, compared_run

SPEC = SweepSpec(
    model="tiny",
    task="demo",
    rows=Rows(sample=400, seed=3),
    explain=Explanation(rows=400, operators=("delete_text",)),
)
LOST: Loss = (0.3, 0.02)
UNSURE: Loss = (0.01, 0.03)
UNEXPLAINED: dict[str, Loss] = {"comprehensiveness": None, "sufficiency": None}


def planned(lake: Path, **question: Any) -> VerdictPlan:
    with connect(lake) as connection:
        return plan_verdicts(
            connection, PlanRequest(**{"model": "tiny", "task": "demo"} | question)
        )


def need(plan: VerdictPlan, level: int, criterion: str) -> CriterionNeed:
    (found,) = [n for n in plan.needs if (n.level, n.criterion) == (level, criterion)]
    return found


def pilot(lake: Path, levels: Any, name: str = "run", **columns: Any) -> str:
    return compared_run(lake, name, levels, **{"spec": SPEC.model_dump_json()} | columns)


def test_decided_criteria_need_nothing_and_the_others_as_many_as_their_spread_takes(
    tmp_path: Path,
) -> None:
    run_id = pilot(tmp_path, {1: {}, 2: {"ece": UNSURE, "comprehensiveness": UNSURE}})
    plan = planned(tmp_path)
    settled = need(plan, 1, "calibration")
    assert (settled.is_decided, settled.n, settled.n_needed) == (True, 400, 400)
    open_need = need(plan, 2, "comprehensiveness")
    assert (open_need.is_decided, open_need.run_id, open_need.n) == (False, run_id, 400)
    sd = 0.03 / 1.648682 * 20  # Student's t with 399 degrees of freedom
    assert open_need.spread == pytest.approx(sd, rel=1e-5)
    spread = PairedSpread(sd, degrees=399)
    expected = examples_for_changes_between(-1, 1, spread, 0.02, 0.8)
    assert open_need.n_needed == pytest.approx(expected, abs=2)
    assert plan.rows == need(plan, 2, "calibration").n_needed
    assert plan.explained_rows == open_need.n_needed
    assert plan.explained_levels == (1, 2)
    assert plan.device == "cpu"
    assert plan.assumptions == ()
    assert plan.command == (
        f"prunelake sweep --model tiny --task demo --rows sample:{plan.rows}:3 --levels 0,1,2 "
        f"--operators delete_text --explain-rows {plan.explained_rows} --explain-levels 0,1,2"
    )


def test_more_power_and_a_smaller_margin_need_more(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {"ece": UNSURE}})
    usual = planned(tmp_path).rows
    assert planned(tmp_path, power=0.9).rows > usual
    narrow = planned(tmp_path, margins=Margins.with_default(0.02, calibration=0.01))
    assert narrow.rows == pytest.approx(4 * usual, rel=0.01)
    assert planned(tmp_path, margins=Margins.with_default(0.05)).rows == 400


def test_levels_that_have_lost_accuracy_are_not_explained(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {"comprehensiveness": UNSURE}, 2: {"accuracy": LOST, **UNEXPLAINED}})
    plan = planned(tmp_path)
    assert need(plan, 2, "accuracy").is_decided
    assert plan.explained_levels == (1,)
    assert "--levels 0,1,2 " in plan.command


def test_a_level_without_a_pilot_has_the_spread_of_the_nearest_one_or_an_assumed_one(
    tmp_path: Path,
) -> None:
    pilot(tmp_path, {1: UNEXPLAINED, 3: {"accuracy": LOST, **UNEXPLAINED}})
    plan = planned(tmp_path, levels=(0, 1, 2, 3))
    between = need(plan, 2, "accuracy")
    assert (between.run_id, between.n, between.change, between.is_decided) == (None, 0, None, False)
    assert between.spread_source == "nearest level"
    assert between.spread == need(plan, 3, "accuracy").spread
    assert need(plan, 1, "sufficiency").spread_source == "assumed"
    nearest, assumed = plan.assumptions
    assert "nearest level" in nearest
    assert assumed.endswith(": comprehensiveness 0.25, sufficiency 0.3.")


def test_an_empty_lake_gives_a_plan_of_assumptions(tmp_path: Path) -> None:
    plan = planned(tmp_path, model="hub:any/model", levels=(2, 4))
    assert {n.run_id for n in plan.needs} == {None}
    assert plan.forward_tokens > 0
    assert plan.minutes == pytest.approx(plan.forward_tokens / 60_000)
    assert plan.device is None
    assert len(plan.assumptions) == 3
    with pytest.raises(NothingToShow, match=r"give levels \(the lake has no runs\)"):
        planned(tmp_path)


def test_a_plan_for_an_unknown_name_lists_the_names_in_the_lake(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {}})
    with pytest.raises(NothingToShow, match=r"\(the lake has tiny\)") as problem:
        planned(tmp_path, model="teeny")
    assert problem.value.choices == ["tiny"]
    with pytest.raises(NothingToShow, match="the lake has task demo, strategy cosine"):
        planned(tmp_path, task="dema")


def test_the_cost_covers_the_missing_rows_only(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {"ece": UNSURE}}, forward_tokens=10**6, duration_s=1000.0)
    plan = planned(tmp_path)
    # The lake has enough explanations, which cost most; further rows take few tokens.
    assert 0 < plan.forward_tokens < 10**6 * (plan.rows - 400) / 400
    assert plan.minutes == pytest.approx(plan.forward_tokens / 60_000, rel=1e-4)


def test_runs_of_another_order_or_task_are_no_pilots(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {"ece": UNSURE}})
    pilot(tmp_path, {1: {}}, "other", strategy="last", n=900)
    pilot(tmp_path, {1: {}}, "task", task="another", n=900)
    pilot(tmp_path, {1: {}}, "dtype", dtype="bfloat16", n=300)
    assert {n.n for n in planned(tmp_path).needs} == {400}
    assert planned(tmp_path, task="another").rows == 900


def test_the_pilot_with_the_most_examples_counts(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {}, 2: {}}, n=100)
    larger = pilot(tmp_path, {1: {"accuracy": UNSURE, **UNEXPLAINED}}, "larger", n=900)
    plan = planned(tmp_path)
    assert need(plan, 1, "accuracy").run_id == larger
    assert (need(plan, 2, "accuracy").n, need(plan, 1, "sufficiency").n) == (100, 100)


@pytest.mark.parametrize("power", [0.0, 1.0, -3.0])
def test_a_power_that_is_no_probability_is_refused(tmp_path: Path, power: float) -> None:
    with pytest.raises(InvalidRequest, match="not between 0 and 1"):
        planned(tmp_path, power=power)


def test_a_plan_is_json(tmp_path: Path) -> None:
    pilot(tmp_path, {1: {}})
    plan = planned(tmp_path)
    assert json.loads(plan.model_dump_json())["needs"][0]["criterion"] == "accuracy"


def test_a_first_sweep_on_a_gpu_takes_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pilot(tmp_path, {1: {}}, model="another")
    for count, dtype in ((1, "bfloat16"), (0, None), (None, None)):
        monkeypatch.setattr("prunelake.planning.verdict_plan.gpu_count", lambda count=count: count)
        plan = planned(tmp_path, levels=(1,), model="hub:org/new")
        assert ("--dtype bfloat16" in plan.command) == (dtype is not None)
        sentence = "This machine has a GPU, so the sweep takes bfloat16."
        assert (sentence in plan.assumptions) == (dtype is not None)


def test_runs_in_float32_on_a_gpu_are_named_as_slow(tmp_path: Path) -> None:
    costs: dict[str, Any] = {
        "forward_tokens": 1000,
        "duration_s": 2.0,
        "device": "NVIDIA H100",
    }
    pilot(tmp_path, {1: {"ece": UNSURE}}, dtype="float32", **costs)
    (sentence,) = planned(tmp_path).assumptions
    assert "times as long as bfloat16 on a GPU" in sentence
