"""metrics and deltas: given rows and expected rows."""

import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import foldnorm

from prunelake.schema.metrics import METRIC_DEFINITIONS
from tests.support.runs.lake_rows import attribution, deletion, prediction, rows_of, run_row, write

RUN = run_row("run", model="m", strategy="random:1", task="t")
R = str(RUN["run_id"])
LN3 = math.log(3)
SQRT_HALF = math.sqrt(0.5)
RIGHT, WRONG = [0.0, -LN3], [-LN3, 0.0]  # 3/4 on the right option, or on the other

DIRECTIONS = {
    "accuracy": True,
    "accuracy_norm": True,
    "ece": False,
    "ece_debiased": False,
    "smooth_ece": False,
    "brier": False,
    "brier_calibration": False,
    "brier_refinement": False,
    "nll": False,
    "mean_confidence": None,
    "auroc": True,
    "aurc": False,
    "comprehensiveness": True,
    "sufficiency": False,
    "comprehensiveness_advantage": True,
    "sufficiency_advantage": True,
    "overlap_5": True,
    "overlap_10": True,
    "overlap_20": True,
    "attribution_spearman": True,
    "flip_rate": False,
    "harmful_flip_rate": False,
    "beneficial_flip_rate": True,
    "kl_from_unpruned": False,
}


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Two levels of two examples: level 1 answers the second wrong, and explains only the first."""
    kinds = ("comprehensiveness", "sufficiency")
    write(
        tmp_path,
        RUN,
        predictions=[
            prediction(R, 0, "a", RIGHT),
            prediction(R, 0, "b", RIGHT),
            prediction(R, 1, "a", RIGHT),
            prediction(R, 1, "b", WRONG),
        ],
        attributions=[
            attribution(R, 0, "a", [1, 2, 3]),
            attribution(R, 0, "b", [1, 2, 3]),
            attribution(R, 1, "a", [3, 2, 1]),
        ],
        deletions=[
            deletion(R, level, "a", 0.5, drop, kind=kind, method=method)
            for level, drop in ((0, 0.5), (1, 0.25))
            for kind in kinds
            for method in ("lime", "random")
        ],
    )
    return tmp_path


def values(lake: Path, where: str) -> dict[str, Any]:
    rows = rows_of(lake, f"select metric, value from metrics where {where}")
    result = {r["metric"]: r["value"] for r in rows}
    assert len(result) == len(rows)
    return result


def test_metrics_of_predictions_equal_values_worked_by_hand(lake: Path) -> None:
    expected = {
        "accuracy": 0.5,
        "accuracy_norm": 0.5,
        "ece": pytest.approx(0.25),
        "brier": pytest.approx((2 / 16 + 2 * 9 / 16) / 2),
        "nll": pytest.approx((math.log(4 / 3) + math.log(4)) / 2),
        "mean_confidence": pytest.approx(0.75),
        "auroc": 0.5,
        "aurc": 0.5,
        # One bin: 2 x 0.25 less the mean of |N(0.25, 0.5 x 0.5 / 2)|.
        "ece_debiased": pytest.approx(0.5 - foldnorm.mean(SQRT_HALF, scale=0.5 * math.sqrt(0.5))),
        "smooth_ece": pytest.approx(0.25, abs=1e-3),
        "brier_calibration": pytest.approx(0.3125 - 0.25),
        "brier_refinement": pytest.approx(0.25),
        "flip_rate": 0.5,
        "harmful_flip_rate": 0.5,
        "beneficial_flip_rate": 0,
        "kl_from_unpruned": pytest.approx(LN3 / 4),
    }
    actual = values(lake, "level = 1 and method is null")
    assert {name: actual[name] for name in expected} == expected


def test_metrics_of_explanations_equal_values_worked_by_hand(lake: Path) -> None:
    where = "level = 1 and method = 'lime' and coalesce(variant, 'eraser') = 'eraser'"
    assert values(lake, where) == {
        "overlap_5": 1,
        "overlap_10": 1,
        "overlap_20": 1,
        "attribution_spearman": pytest.approx(-1),
        "comprehensiveness": 0.25,
        "sufficiency": 0.25,
        "comprehensiveness_advantage": 0,
        "sufficiency_advantage": 0,
    }
    where = "level = 1 and method = 'random' and variant = 'paper'"
    assert values(lake, where) == {"comprehensiveness": 0.125, "sufficiency": 0.125}


def test_metrics_have_the_names_of_the_run_n_and_direction(lake: Path) -> None:
    rows = rows_of(lake, "from metrics")
    assert {(r["run_id"], r["model"], r["strategy"], r["task"]) for r in rows} == {
        (R, "m", "random:1", "t")
    }
    directions = {r["metric"]: r["higher_is_better"] for r in rows}
    assert directions == {name: METRIC_DEFINITIONS[name].higher_is_better for name in directions}
    assert directions.items() >= DIRECTIONS.items()
    counts = {(r["metric"], r["level"]): r["n"] for r in rows}
    assert counts["accuracy", 1] == 2
    assert counts["overlap_5", 0] == 2
    assert counts["overlap_5", 1] == 1
    assert counts["sufficiency_advantage", 1] == 1


def test_keys_of_metrics_are_unique(lake: Path) -> None:
    key = "run_id, level, metric, method, operator, variant"
    assert rows_of(lake, f"select {key} from metrics group by all having count(*) > 1") == []


def test_deltas_compare_with_level_0_and_flag_worse_values(lake: Path) -> None:
    rows = rows_of(lake, "from deltas where level = 1 and (variant is null or variant = 'eraser')")
    result = {
        r["metric"]: (r["unpruned_value"], r["value"], r["delta"], r["is_worse"], r["n"])
        for r in rows
        if r["method"] != "random"
    }
    assert result["accuracy"] == (1, 0.5, -0.5, True, 2)
    assert result["flip_rate"] == (0, 0.5, 0.5, True, 2)
    assert result["mean_confidence"][3] is None
    assert result["auroc"] == (None, 0.5, None, None, 2)
    assert result["comprehensiveness"] == (0.5, 0.25, -0.25, True, 1)
    assert result["sufficiency"] == (0.5, 0.25, -0.25, False, 1)
    assert result["overlap_5"] == (1, 1, 0, False, 1)


def test_metrics_that_compare_with_level_0_are_not_tested(lake: Path) -> None:
    rows = rows_of(lake, "select distinct metric, method, is_tested from deltas")
    not_tested = {r["metric"] for r in rows if not r["is_tested"] and r["method"] != "random"}
    assert not_tested == {
        *("harmful_flip_rate", "beneficial_flip_rate", "kl_from_unpruned"),
        *("overlap_5", "overlap_10", "overlap_20", "attribution_spearman"),
    }
    assert {r["is_tested"] for r in rows if r["method"] == "random"} == {False}
    tested = rows_of(lake, "from deltas where p_value is not null")
    assert {r["is_tested"] for r in tested} == {True}
    assert {r["level"] for r in tested} == {1}


def test_deltas_of_level_0_are_zero(lake: Path) -> None:
    rows = rows_of(lake, "from deltas where level = 0 and value is not null")
    assert {r["delta"] for r in rows} == {0}


def test_the_delta_is_null_if_level_0_lacks_the_metric(tmp_path: Path) -> None:
    write(tmp_path, RUN, deletions=[deletion(R, 1, "a", 0.5, 0.25)])
    rows = rows_of(tmp_path, "select unpruned_value, delta, is_worse from deltas")
    assert {tuple(r.values()) for r in rows} == {(None, None, None)}
    (row,) = rows_of(
        tmp_path,
        "select metrics.value, deltas.n, deltas.note from deltas inner join metrics"
        " on metrics.metric = deltas.metric and metrics.variant = deltas.variant"
        " and metrics.level = deltas.level"
        " where deltas.metric = 'comprehensiveness' and deltas.variant = 'eraser'"
        " and deltas.level = 1",
    )
    assert row == {"value": 0.25, "n": 0, "note": "a single example"}


def test_views_show_only_analysed_runs(lake: Path) -> None:
    for path in (lake / "analyses").iterdir():
        path.unlink()
    for view in ("metrics", "deltas", "correlations", "verdicts", "pooled_correlations"):
        assert rows_of(lake, f"from {view}") == []
