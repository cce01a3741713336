"""criteria: from given differences, whether each is shown to be worse by less than a margin."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t, ttest_1samp

from prunelake.recommend.request import Criterion
from tests.support.endurance import repeats
from tests.support.runs.criteria_runs import CRITERIA, Levels, Loss, compared_run
from tests.support.runs.example_runs import judged_run, published_run
from tests.support.runs.lake_rows import deletion, prediction, rows_of, run_row, write

AS_IT_IS = "from criteria where calibrator is null"
BAD, UNSURE = (0.05, 0.01), (0.01, 0.02)


def criteria_rows(lake: Path, sql: str = AS_IT_IS) -> dict[tuple[int, str], dict[str, Any]]:
    return {(row["level"], row["criterion"]): row for row in rows_of(lake, sql)}


def reached(lake: Path, source: str = "criteria") -> set[int]:
    sql = f"select distinct level from {source} where is_reached and calibrator is null"
    return {row["level"] for row in rows_of(lake, sql)}


@pytest.mark.parametrize("metric", CRITERIA)
@pytest.mark.parametrize(
    ("loss", "is_met"),
    [
        ((0.0, 0.01), True),
        ((0.01, 0.0099), True),
        ((0.01, 0.01), False),  # the bound equals the margin
        ((0.05, 0.01), False),
        ((-0.3, 0.01), True),  # an improvement of any size passes
        ((-0.3, 0.4), False),
    ],
)
def test_a_criterion_is_met_if_the_bound_of_the_loss_is_below_the_margin(
    tmp_path: Path, metric: str, loss: tuple[float, float], is_met: bool
) -> None:
    compared_run(tmp_path, "run", {1: {metric: loss}})
    rows = criteria_rows(tmp_path)
    criterion = "calibration" if metric == "ece" else metric
    row = rows.pop((1, criterion))
    assert row["is_met"] is is_met
    assert row["loss"] == pytest.approx(loss[0])
    assert row["loss_bound"] == pytest.approx(sum(loss))
    assert (row["metric"], row["n"], row["margin"]) == (metric, 400, 0.02)
    assert all(other["is_met"] for other in rows.values())
    assert {row["is_level_met"] for row in [row, *rows.values()]} == {is_met}


def test_a_criterion_has_the_key_and_values_of_its_metric(tmp_path: Path) -> None:
    run_id = compared_run(tmp_path, "run", {2: {"sufficiency": BAD}})
    assert criteria_rows(tmp_path)[2, "sufficiency"] == {
        "run_id": run_id,
        "model": "tiny",
        "strategy": "cosine",
        "task": "demo",
        "level": 2,
        "label": "2",
        "calibrator": None,
        "criterion": "sufficiency",
        "metric": "sufficiency",
        "method": "kernel_shap",
        "operator": "delete_text",
        "variant": "eraser",
        "unpruned_value": 0.5,
        "value": 0.55,
        "delta": 0.05,
        "loss": 0.05,
        "delta_se": pytest.approx(0.01 / t.ppf(0.95, 399)),
        "loss_bound": pytest.approx(0.06),
        "margin": 0.02,
        "is_met": False,
        "n": 400,
        "n_needed": None,
        "is_level_tested": True,
        "is_level_met": False,
        "is_reached": False,
        "note": None,
    }


def test_no_level_after_the_first_failure_is_reached(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}, 2: {}, 3: {"ece": BAD}, 4: {}})
    assert reached(tmp_path) == {1, 2}
    met = {key: row["is_level_met"] for key, row in criteria_rows(tmp_path).items()}
    assert met[4, "accuracy"]


def test_levels_without_explanations_are_skipped_and_never_reached(tmp_path: Path) -> None:
    absent: dict[str, Loss] = {"comprehensiveness": None, "sufficiency": None}
    compared_run(tmp_path, "run", {1: absent, 2: {}, 3: absent, 4: {}, 5: {"ece": BAD}, 6: absent})
    assert reached(tmp_path) == {2, 4}
    rows = criteria_rows(tmp_path)
    assert rows[3, "comprehensiveness"]["note"] == "not measured"
    assert {level for (level, _), row in rows.items() if row["is_level_tested"]} == {2, 4, 5}


def test_an_unknown_loss_of_an_explained_level_is_a_failure(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {}, 2: {"accuracy": None}, 3: {}})
    assert reached(tmp_path) == {1}
    row = criteria_rows(tmp_path)[2, "accuracy"]
    assert (row["is_level_tested"], row["note"]) == (True, "no example could be scored")


def test_no_level_is_reached_without_explanations(tmp_path: Path) -> None:
    judged_run(tmp_path)
    assert reached(tmp_path) == set()
    rows = criteria_rows(tmp_path)
    assert {key: row["note"] for key, row in rows.items() if row["note"]} == {
        (level, criterion): "not measured"
        for level in (1, 2)
        for criterion in ("comprehensiveness", "sufficiency")
    }
    assert rows[1, "accuracy"]["is_met"]
    assert not rows[1, "calibration"]["is_met"]


def test_published_values_meet_no_criterion_and_have_a_note(tmp_path: Path) -> None:
    published_run(tmp_path)
    rows = criteria_rows(tmp_path)
    assert {name for _, name in rows} == {*Criterion}, "known_criteria in criteria.sql"
    assert {row["is_met"] for row in rows.values()} == {False}
    note = "published without examples: no interval, no test"
    assert {rows[1, name]["note"] for name in ("accuracy", "calibration", "comprehensiveness")} == {
        note
    }
    assert rows[1, "sufficiency"]["note"] == "not measured"


def test_recalibration_changes_the_criterion_calibration_only(tmp_path: Path) -> None:
    levels = {1: {"ece": BAD}, 2: {"ece": BAD, "sufficiency": BAD}, 3: {}}
    compared_run(tmp_path, "run", levels, recalibrated={1: (-0.1, 0.01), 2: (0.0, 0.01), 3: None})
    before = criteria_rows(tmp_path)
    after = criteria_rows(tmp_path, "from criteria where calibrator = 'temperature'")
    assert set(after) == set(before)
    for (level, criterion), row in after.items():
        if criterion != "calibration":
            whole = {"calibrator", "is_level_met", "is_reached"}
            told = {name: value for name, value in row.items() if name not in whole}
            assert told.items() <= before[level, criterion].items()
    assert after[1, "calibration"]["loss"] == pytest.approx(-0.1)
    assert after[1, "calibration"]["loss_bound"] == pytest.approx(-0.09)
    assert [after[level, "calibration"]["is_met"] for level in (1, 2, 3)] == [True, True, False]
    assert after[3, "calibration"]["note"] == "fewer than 20 examples"
    assert {key[0] for key, row in after.items() if row["is_reached"]} == {1}
    assert reached(tmp_path) == set()
    other = criteria_rows(
        tmp_path, "from criteria_at(recalibrated_by := 'beta') where calibrator = 'beta'"
    )
    assert other[1, "calibration"]["note"] == "not measured"


def test_margins_and_the_metric_of_calibration_are_parameters(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: dict.fromkeys(CRITERIA, (0.03, 0.01))})

    def met(arguments: str) -> set[str]:
        rows = rows_of(tmp_path, f"from criteria_at({arguments}) where calibrator is null")
        return {row["criterion"] for row in rows if row["is_met"]}

    assert met("") == set()
    assert met("accuracy_margin := 0.05") == {"accuracy"}
    assert met("calibration_margin := 0.05") == {"calibration"}
    assert met("faithfulness_margin := 0.05") == {"comprehensiveness", "sufficiency"}
    assert met("calibration_metric := 'brier', calibration_margin := 0.05") == set()
    assert rows_of(tmp_path, "from criteria_at(run_ids := [])") == []
    wide = "accuracy_margin := 0.05, calibration_margin := 0.05, faithfulness_margin := 0.05"
    assert reached(tmp_path, f"criteria_at({wide})") == {1}


def test_n_needed_examples_meet_the_criterion_four_times_in_five(tmp_path: Path) -> None:
    compared_run(tmp_path, "run", {1: {"ece": UNSURE, "sufficiency": BAD}}, n=100)
    rows = criteria_rows(tmp_path)
    needed = rows[1, "calibration"]["n_needed"]
    loss, half = UNSURE
    error = half / t.ppf(0.95, 99)
    shrunk = math.sqrt(100 / needed)
    # The bound is met if the estimate is not above its 80 % quantile.
    assert loss + shrunk * (norm.ppf(0.8) * error + half) == pytest.approx(0.02, rel=1e-3)
    # n_needed is null if the loss itself exceeds the margin, and if the criterion is met.
    assert rows[1, "sufficiency"]["n_needed"] is None
    assert rows[1, "accuracy"]["n_needed"] is None


LOSSES = st.one_of(
    st.just((0.0, 0.01)), st.tuples(st.sampled_from([-0.1, 0.0, 0.01, 0.1]), st.just(0.015))
)


@settings(max_examples=repeats(10, 30), deadline=None)
@given(
    st.dictionaries(
        st.integers(1, 9), st.dictionaries(st.sampled_from(CRITERIA), LOSSES), min_size=1
    )
)
def test_is_reached_equals_a_plain_loop_over_the_levels(levels: Levels) -> None:
    expected = set()
    for level in sorted(levels):
        if any(loss + half >= 0.02 for loss, half in filter(None, levels[level].values())):
            break
        expected.add(level)
    with tempfile.TemporaryDirectory() as folder:
        compared_run(Path(folder), "run", levels)
        assert reached(Path(folder)) == expected


@pytest.mark.parametrize(
    ("shift", "spread", "is_met"),
    [(0.0, 0.1, True), (-0.015, 0.1, False), (-0.015, 0.01, True), (-0.05, 0.01, False)],
)
def test_loss_bound_equals_the_one_sided_t_test(
    tmp_path: Path, shift: float, spread: float, is_met: bool
) -> None:
    """The drops of comprehensiveness at level 1 are those of level 0 plus noise and a shift."""
    n, margin = 200, 0.02
    drops = np.random.default_rng(0).normal(0.3, 0.05, n)
    change = np.random.default_rng(1).normal(shift, spread, n)
    run = run_row("run", levels=[0, 1], example_count=n)
    run_id = str(run["run_id"])
    names = [f"test:{i}" for i in range(n)]
    write(
        tmp_path,
        run,
        predictions=[
            prediction(run_id, level, name, [-1.0, -2.0]) for level in (0, 1) for name in names
        ],
        deletions=[
            deletion(run_id, level, name, 0.1, drop, method="kernel_shap", operator="delete_text")
            for level, values in ((0, drops), (1, drops + change))
            for name, drop in zip(names, values, strict=True)
        ],
    )
    row = criteria_rows(tmp_path)[1, "comprehensiveness"]
    test = ttest_1samp(change, -margin, alternative="greater")
    assert row["is_met"] is bool(test.pvalue < 0.05) is is_met
    half = change.mean() - test.confidence_interval(0.95).low
    assert row["loss"] == pytest.approx(-change.mean())
    # The standard error from 2,000 replicates is accurate to a few percent.
    assert row["loss_bound"] - row["loss"] == pytest.approx(half, rel=0.08)
