from pathlib import Path

import polars as pl
import pytest

from api import queries
from prunelake import views
from tests.lake_rows import frames, identity_of, run_row, write
from tests.level_rows import explained_run

KERNEL, TEXT, RANDOM = "kernel_shap", "delete_text", "random"


@pytest.mark.parametrize(
    ("drops", "expected"),
    [
        ([(KERNEL, TEXT), (KERNEL, "replace"), ("input_x_gradient", TEXT)], [(KERNEL, TEXT)]),
        ([("lime", "replace"), ("input_x_gradient", "replace"), (RANDOM, TEXT)],
         [("input_x_gradient", "replace")]),
        ([("lime", "blank"), ("lime", TEXT)], [("lime", TEXT)]),
        ([(RANDOM, TEXT)], []),
        ([], []),
    ],
)  # fmt: skip
def test_the_headline_explanation(
    tmp_path: Path, drops: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    run_id = explained_run(tmp_path, drops=dict.fromkeys(drops, 0.5))
    with views.connect(tmp_path) as connection:
        assert queries.headline(connection, run_id).rows() == expected


def test_levels_are_those_of_the_headline_beside_random(tmp_path: Path) -> None:
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
        rows = queries.levels(connection, run_id)
    assert not rows.select("level", "metric").is_duplicated().any()
    comprehensiveness = rows.filter(metric="comprehensiveness")
    assert comprehensiveness.to_dict(as_series=False) == {
        "level": [0, 1, 2],
        "metric": ["comprehensiveness"] * 3,
        "value": [0.5, 0.375, 0.25],
        "n": [2, 2, 2],
        "unpruned_value": [0.5] * 3,
        "delta": [0.0, -0.125, -0.25],
        "is_worse": [False, True, True],
        "random_value": [0.4375, 0.3125, 0.1875],
    }
    accuracy = rows.filter(metric="accuracy").select("level", "value", "n", "random_value").rows()
    assert accuracy == [(0, 0.75, 4, None), (1, 0.75, 4, None), (2, 0.5, 4, None)]


def test_predictions_only_have_levels_without_explanations(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path, drops={})
    with views.connect(tmp_path) as connection:
        metrics = set(queries.levels(connection, run_id)["metric"])
    assert {"accuracy", "ece", "mean_confidence", "flip_rate"} <= metrics
    assert metrics.isdisjoint({"comprehensiveness", "sufficiency", "overlap_10"})


def test_correlations_have_one_row_a_metric_and_scope(tmp_path: Path) -> None:
    drops = {(KERNEL, TEXT): 0.5, (KERNEL, "replace"): 0.25, ("lime", TEXT): 0.25}
    run_id = explained_run(tmp_path, drops=drops)
    with views.connect(tmp_path) as connection:
        rows = queries.correlations(connection, run_id)
    assert not rows.select("metric", "scope").is_duplicated().any()
    everywhere = rows.filter(scope="all")
    strengths = everywhere["spearman"].drop_nulls().abs().to_list()
    assert strengths == sorted(strengths, reverse=True)
    # Accuracies 0.75, 0.75, 0.5 against 0.5, 0.375, 0.25: ranks 2.5, 2.5, 1 against 3, 2, 1.
    found = everywhere.filter(metric="comprehensiveness").row(0, named=True)
    assert found["spearman"] == pytest.approx(3**0.5 / 2)
    assert found["level_count"] == 3
    assert everywhere.filter(metric="sufficiency")["note"].to_list() == ["constant metric"]


def test_layers_and_reliability_of_one_run(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    explained_run(tmp_path, "other")
    with views.connect(tmp_path) as connection:
        layers = queries.layers(connection, run_id).rows()
        bins = queries.reliability(connection, run_id, 2)
    assert layers == [(0, 0.5, 1), (1, 0.25, 0)]
    assert bins["level"].unique(maintain_order=True).to_list() == [0, 2]
    assert bins.group_by("level").agg(pl.sum("n"))["n"].to_list() == [4, 4]


def test_guessing_by_options_and_by_the_commonest_gold(tmp_path: Path) -> None:
    run_id = explained_run(tmp_path)
    empty = write(tmp_path, run_row("empty"))
    with views.connect(tmp_path) as connection:
        assert queries.guessing(connection, run_id).rows() == [(0.5, 0.75)]
        assert queries.guessing(connection, empty).rows() == [(None, None)]


def test_runs_all_or_chosen_with_models_together(tmp_path: Path) -> None:
    for name, model in (("a", "second"), ("b", "first"), ("c", "second")):
        write(tmp_path, run_row(name, model=model, task=f"task_{name}"))
    with views.connect(tmp_path) as connection:
        assert queries.runs(connection)["task"].to_list() == ["task_b", "task_a", "task_c"]
        chosen = queries.runs(connection, [identity_of("c")[1]])
        assert chosen["task"].to_list() == ["task_c"]
        assert queries.runs(connection, []).is_empty()


def test_frames_are_empty_for_a_run_without_rows(tmp_path: Path) -> None:
    run_id = write(tmp_path, run_row(), **{name: [] for name in frames()})
    with views.connect(tmp_path) as connection:
        assert queries.levels(connection, run_id).is_empty()
        assert queries.layers(connection, run_id).is_empty()
        assert queries.correlations(connection, run_id).is_empty()
        assert queries.reliability(connection, run_id, 0).is_empty()
