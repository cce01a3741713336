"""pareto: from given rows of lake.metrics; the oracle is a search over all pairs of levels."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs.example_runs import explained_run, judged_run, published_run
from tests.support.runs.lake_rows import rows_of
from tests.support.runs.metric_runs import Values, metric_run
from tests.support.runs.profile_rows import DAY, profiled


def undominated(lake: Path, metric: str = "accuracy", source: str = "pareto") -> set[Any]:
    """The strategy and level of each undominated point."""
    sql = f"select strategy, level from {source} where metric = '{metric}' and is_undominated"
    return {(row["strategy"], row["level"]) for row in rows_of(lake, sql)}


def test_a_level_is_dominated_by_a_level_that_removes_more_and_is_no_worse(tmp_path: Path) -> None:
    accuracy = {0: 0.75, 1: 0.5, 2: 0.625, 3: 0.625, 4: 0.25}
    metric_run(tmp_path, "run", {("accuracy", ""): accuracy})
    # Level 1 is worse than level 2, which removes more. Level 2 equals level 3, which removes more.
    assert undominated(tmp_path) == {("cosine", 0), ("cosine", 3), ("cosine", 4)}


def test_a_lower_value_dominates_if_lower_is_better(tmp_path: Path) -> None:
    metric_run(tmp_path, "run", {("ece", ""): {0: 0.125, 1: 0.25, 2: 0.1875, 3: 0.0625, 4: 0.5}})
    assert undominated(tmp_path, "ece") == {("cosine", 3), ("cosine", 4)}


def test_equal_points_of_two_orders_are_both_undominated(tmp_path: Path) -> None:
    metric_run(tmp_path, "one", {("accuracy", ""): {0: 0.75, 1: 0.5}})
    metric_run(tmp_path, "other", {("accuracy", ""): {0: 0.75, 1: 0.25}}, strategy="random:0")
    assert undominated(tmp_path) == {("cosine", 0), ("random:0", 0), ("cosine", 1)}


@pytest.mark.parametrize("apart", [{"model": "m"}, {"revision": "1" * 40}, {"task": "t"}])
def test_only_runs_of_one_model_revision_and_task_compete(
    tmp_path: Path, apart: dict[str, str]
) -> None:
    metric_run(tmp_path, "one", {("accuracy", ""): {1: 0.5}})
    metric_run(tmp_path, "better", {("accuracy", ""): {2: 0.75}}, strategy="better")
    metric_run(tmp_path, "apart", {("accuracy", ""): {3: 1.0}}, strategy="apart", **apart)
    assert undominated(tmp_path) == {("better", 2), ("apart", 3)}


def test_runs_outside_run_ids_dominate_nothing(tmp_path: Path) -> None:
    run_id = metric_run(tmp_path, "later", {("accuracy", ""): {1: 0.5}})
    metric_run(tmp_path, "earlier", {("accuracy", ""): {2: 0.75}}, strategy="better")
    assert undominated(tmp_path) == {("better", 2)}
    chosen = f"pareto_among(run_ids := ['{run_id}'])"
    assert undominated(tmp_path, source=chosen) == {("cosine", 1)}


def test_candidates_do_not_compete_with_removals(tmp_path: Path) -> None:
    metric_run(tmp_path, "removal", {("accuracy", ""): {1: 0.5}})
    explained_run(tmp_path, "comparison", task="demo", labels=("base", "int8", "int4"))
    assert undominated(tmp_path) == {("cosine", 1)}


def test_a_point_has_its_cost_value_and_interval(tmp_path: Path) -> None:
    run_id = judged_run(tmp_path, layer_count=8)
    (row,) = rows_of(tmp_path, "from pareto where metric = 'ece' and level = 1")
    (metric,) = rows_of(
        tmp_path, "from metrics where metric = 'ece' and level = 1 and variant is null"
    )
    assert row == {
        "run_id": run_id,
        "model": "tiny",
        "revision": "0" * 40,
        "strategy": "cosine",
        "task": "demo",
        "level": 1,
        "removed_layers": 1,
        "layer_count": 8,
        "removed_share": 0.125,
        "metric": "ece",
        "method": None,
        "operator": None,
        "variant": None,
        "value": metric["value"],
        "ci_low": metric["ci_low"],
        "ci_high": metric["ci_high"],
        "higher_is_better": False,
        **dict.fromkeys(("prefill_speedup", "decode_speedup", "weight_share", "kv_share")),
        "verdict": "hidden degradation",
        "is_undominated": True,
    }
    assert row["value"] is not None
    assert row["ci_low"] is not None


def test_a_point_has_the_savings_on_the_device_that_was_profiled_last(
    tmp_path: Path,
) -> None:
    judged_run(tmp_path)
    profiled(tmp_path, "new", {0: [4.0], 1: [1.0]}, created_at=DAY + timedelta(1), device_name="n")
    profiled(tmp_path, "old", {0: [4.0], 1: [2.0], 2: [2.0]}, device_name="o")
    columns = "level, prefill_speedup, decode_speedup, weight_share, kv_share"
    sql = f"select {columns} from pareto where metric = 'ece' order by level"
    assert [tuple(row.values()) for row in rows_of(tmp_path, sql)][:2] == [
        (0, 1.0, 1.0, 1.0, 1.0),
        (1, 4.0, 4.0, 0.9, 0.75),
    ]


def test_a_metric_without_a_value_or_direction_has_no_point(tmp_path: Path) -> None:
    values: Values = {("accuracy", ""): {0: 0.5, 1: None}, ("mean_confidence", ""): {0: 0.5}}
    metric_run(tmp_path, "run", values, layer_count=0)
    rows = rows_of(tmp_path, "select level, metric, layer_count, removed_share from pareto")
    assert rows == [{"level": 0, "metric": "accuracy", "layer_count": None, "removed_share": None}]


def test_explanations_match_the_headline(tmp_path: Path) -> None:
    drops = {(m, o): 0.5 for m in ("lime", "kernel_shap") for o in ("replace", "delete_text")}
    explained_run(tmp_path, drops=drops)
    rows = rows_of(tmp_path, "select * from pareto where metric = 'comprehensiveness'")
    assert sorted((r["level"], r["method"], r["operator"], r["variant"]) for r in rows) == [
        (level, "kernel_shap", "delete_text", "eraser") for level in (0, 1, 2)
    ]


def test_published_values_compete_and_have_no_verdict(tmp_path: Path) -> None:
    published_run(tmp_path)
    rows = rows_of(tmp_path, "from pareto where metric = 'accuracy' order by level")
    assert [r["verdict"] for r in rows] == [None] * 5
    assert [r["is_undominated"] for r in rows] == [False, True, True, True, True]
    other = {("comprehensiveness", "lime"): {0: 0.5}, ("comprehensiveness", ""): {0: 0.25}}
    run_id = metric_run(tmp_path, "both", other)
    result = rows_of(tmp_path, f"select method, value from pareto where run_id = '{run_id}'")
    assert result == [{"method": "lime", "value": 0.5}]


def test_is_undominated_equals_a_search_over_all_pairs(tmp_path: Path) -> None:
    draw = random.Random(0)
    for task in range(8):
        for strategy in ("cosine", "random:0", "random:1"):
            values = {
                # A coarse grid, so that many values are equal.
                (metric, ""): {
                    level: draw.choice([0.25, 0.5, 0.75, None])
                    for level in draw.sample(range(9), 6)
                }
                for metric in ("accuracy", "ece")
            }
            name = f"{task} {strategy}"
            metric_run(tmp_path, name, values, task=str(task), strategy=strategy)
    points = rows_of(tmp_path, "from pareto")
    assert len(points) > 150

    def dominates(one: dict[str, Any], other: dict[str, Any]) -> bool:
        sign = 1 if other["higher_is_better"] else -1
        more = one["removed_layers"] - other["removed_layers"]
        better = sign * (one["value"] - other["value"])
        is_rival = (one["task"], one["metric"]) == (other["task"], other["metric"])
        return is_rival and more >= 0 and better >= 0 and (more > 0 or better > 0)

    for point in points:
        expected = not any(dominates(rival, point) for rival in points)
        assert point["is_undominated"] is expected, point
    assert {point["is_undominated"] for point in points} == {True, False}
