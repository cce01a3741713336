"""Queries for the metrics of runs and their correlations."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prunelake.api.queries import run_metrics, runs
from prunelake.lake.sql import views
from tests.support.runs.example_runs import SCHEMA, explained_run, judged_run, published_run
from tests.support.runs.lake_rows import run_row, write

KERNEL, TEXT, RANDOM = "kernel_shap", "delete_text", "random"


def test_levels_have_the_values_of_the_headline_and_of_a_random_ranking(tmp_path: Path) -> None:
    drops = {
        (KERNEL, TEXT): 0.5,
        (KERNEL, "replace"): 0.375,
        ("lime", TEXT): 0.3125,
        (RANDOM, TEXT): 0.4375,
        (RANDOM, "replace"): 0.25,
    }
    run_id = explained_run(tmp_path, drops=drops)
    explained_run(tmp_path, "other", drops={(KERNEL, TEXT): 0.3})
    with views.connect(tmp_path) as connection:
        rows = run_metrics.headline_metrics([run_id]).rows(connection)
    assert rows.schema == {"run_id": pl.String(), **SCHEMA}
    assert not rows.select("level", "metric").is_duplicated().any()
    found = rows.filter(metric="comprehensiveness")
    assert found.select("level", "value", "n", "delta", "random_value").rows() == [
        (0, 0.5, 2, 0.0, 0.4375),
        (1, 0.375, 2, -0.125, 0.3125),
        (2, 0.25, 2, -0.25, 0.1875),
    ]
    accuracy = rows.filter(metric="accuracy").select("level", "value", "n", "random_value").rows()
    assert accuracy == [(0, 0.75, 4, None), (1, 0.75, 4, None), (2, 0.5, 4, None)]


def test_levels_have_the_intervals_and_verdicts_of_the_views(tmp_path: Path) -> None:
    run_id = judged_run(tmp_path)
    with views.connect(tmp_path) as connection:
        rows = run_metrics.headline_metrics([run_id]).rows(connection)
        expected = connection.sql(
            "select level, metric, m.ci_low, m.ci_high, d.delta_low, d.delta_high, "
            "d.equivalence_low, d.equivalence_high, v.p_adjusted, v.smallest_detectable "
            "from metrics m join deltas d using (level, metric) "
            "left join verdicts v using (level, metric) "
            "where m.variant is null and d.variant is null order by metric, level"
        )
        assert rows.select(expected.columns).rows() == expected.fetchall()
    verdicts = {(row["level"], row["metric"]): row["verdict"] for row in rows.to_dicts()}
    assert verdicts[1, "accuracy"] == "equivalent"
    assert verdicts[1, "ece"] == "hidden degradation"
    assert verdicts[2, "accuracy"] == verdicts[2, "ece"] == "visible degradation"
    assert verdicts[0, "ece"] is None


def test_a_metric_is_worse_while_accuracy_is_inconclusive(tmp_path: Path) -> None:
    run_id = judged_run(tmp_path, n=80)
    with views.connect(tmp_path) as connection:
        rows = run_metrics.headline_metrics([run_id]).rows(connection).filter(level=1)
        assert rows.filter(metric="accuracy")["verdict"].to_list() == ["inconclusive"]
        assert rows.filter(metric="brier")["verdict"].to_list() == ["inconclusive"]
        assert rows.filter(metric="ece")["verdict"].to_list() == ["worse"]
        verdict = connection.sql("select verdict from verdicts where metric = 'ece' and level = 1")
        assert verdict.fetchall() == [("inconclusive",)]


def test_levels_of_several_runs_and_of_a_published_run(tmp_path: Path) -> None:
    published = published_run(tmp_path)
    run_id = judged_run(tmp_path)
    judged_run(tmp_path, "other")
    with views.connect(tmp_path) as connection:
        rows = run_metrics.headline_metrics([run_id, published]).rows(connection)
        assert runs.headline_explanation(published).rows(connection).rows() == [
            ("lime", None, None)
        ]
    assert set(rows["run_id"]) == {run_id, published}
    rows = rows.filter(run_id=published)
    assert rows.filter(metric="comprehensiveness").select("level", "value", "delta").rows() == [
        (0, 0.5, 0.0),
        (1, 0.375, -0.125),
        (2, 0.25, -0.25),
        (3, 0.25, -0.25),
        (4, 0.125, -0.375),
    ]
    unknown = ["n", "ci_low", "delta_low", "p_adjusted", "verdict", "smallest_detectable"]
    assert rows.select(pl.col(unknown).is_null().all()).row(0) == (True,) * len(unknown)


def test_a_published_column_with_a_method_is_preferred(tmp_path: Path) -> None:
    run = run_row(levels=[0, 1], example_count=0)
    cell = {"run_id": run["run_id"], "operator": "", "variant": ""}
    rows = [
        cell | {"level": level, "metric": metric, "method": method, "value": value}
        for level in (0, 1)
        for metric, method, value in (
            ("accuracy", "", 0.5),
            ("comprehensiveness", "", 0.125),
            ("comprehensiveness", "lime", 0.25),
            ("overlap_10", "", 0.75),
        )
    ]
    run_id = write(tmp_path, run, reported=rows)
    with views.connect(tmp_path) as connection:
        found = run_metrics.headline_metrics([run_id]).rows(connection).filter(level=1)
        correlations = run_metrics.correlations(run_id).rows(connection)
    assert not correlations.select("metric", "scope").is_duplicated().any()
    assert found.select("metric", "value").rows() == [
        ("accuracy", 0.5),
        ("comprehensiveness", 0.25),
        ("overlap_10", 0.75),
    ]


def test_predictions_only_have_levels_without_explanations(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path, drops={})
    with views.connect(tmp_path) as connection:
        metrics = set(run_metrics.headline_metrics([run_id]).rows(connection)["metric"])
    assert {"accuracy", "ece", "mean_confidence", "flip_rate"} <= metrics
    assert metrics.isdisjoint({"comprehensiveness", "sufficiency", "overlap_10"})


def test_correlations_have_one_row_a_metric_and_scope(tmp_path: Path) -> None:
    drops = {(KERNEL, TEXT): 0.5, (KERNEL, "replace"): 0.25, ("lime", TEXT): 0.25}
    run_id = explained_run(tmp_path, drops=drops)
    with views.connect(tmp_path) as connection:
        rows = run_metrics.correlations(run_id).rows(connection)
    assert not rows.select("metric", "scope").is_duplicated().any()
    everywhere = rows.filter(scope="all")
    strengths = everywhere["spearman"].drop_nulls().abs().to_list()
    assert strengths == sorted(strengths, reverse=True)
    # Accuracies 0.75, 0.75, 0.5 against 0.5, 0.375, 0.25: ranks 2.5, 2.5, 1 against 3, 2, 1.
    found = everywhere.filter(metric="comprehensiveness").row(0, named=True)
    assert found["spearman"] == pytest.approx(3**0.5 / 2)
    assert found["level_count"] == 3
    assert everywhere.filter(metric="sufficiency")["note"].to_list() == ["constant metric"]


def test_correlations_have_their_intervals_and_the_scopes_of_a_metric_together(
    tmp_path: Path,
) -> None:
    run_id = published_run(tmp_path)
    other = judged_run(tmp_path)
    with views.connect(tmp_path) as connection:
        rows = run_metrics.correlations(run_id).rows(connection)
        tested = run_metrics.correlations(other).rows(connection).filter(metric="ece", scope="all")
    assert rows.select("metric", "scope", "level_count").rows() == [
        ("comprehensiveness", "all", 5),
        ("comprehensiveness", "stable", None),
        ("ece", "all", 5),
        ("ece", "stable", None),
    ]
    row = tested.row(0, named=True)
    assert -1 <= row["pearson_low"] < row["pearson"] < row["pearson_high"] < 0


def test_pooled_rows_need_several_runs_and_a_shown_metric(tmp_path: Path) -> None:
    with views.connect(tmp_path) as connection:
        assert run_metrics.pooled_correlations().rows(connection).is_empty()
    published_run(tmp_path, "a", task="a")
    with views.connect(tmp_path) as connection:
        assert run_metrics.pooled_correlations().rows(connection).is_empty()
    published_run(tmp_path, "b", task="b")
    for name in ("c", "d"):
        drops = {(KERNEL, TEXT): 0.5, (KERNEL, "replace"): 0.25, (RANDOM, TEXT): 0.25}
        explained_run(tmp_path, name, drops=drops, task=name)
    with views.connect(tmp_path) as connection:
        rows = run_metrics.pooled_correlations().rows(connection)
    assert set(rows["run_count"]) == {2}
    of_comprehensiveness = rows.filter(metric="comprehensiveness")
    assert of_comprehensiveness.select("strategy", "method", "operator").rows() == [
        ("", "lime", None),
        ("cosine", KERNEL, TEXT),
    ]
    # Both runs are equal, so the correlation within runs is that of each run.
    published = np.corrcoef([0.75, 0.75, 0.5, 0.375, 0.25], [0.5, 0.375, 0.25, 0.25, 0.125])
    assert of_comprehensiveness["repeated_measures"].to_list() == pytest.approx(
        [published[0, 1], 3**0.5 / 2]
    )
