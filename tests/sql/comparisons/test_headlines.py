"""One row represents each metric of a run: the views headline_keys, _metrics and _correlations."""

from pathlib import Path

import pytest

from prunelake.lake.sql.views import query
from tests.support.runs.example_runs import explained_run, judged_run, published_run
from tests.support.runs.lake_rows import run_row, write

Key = tuple[str, str, str, str]

DROPS = {
    ("kernel_shap", "delete_text"): 0.5,
    ("kernel_shap", "replace"): 0.375,
    ("lime", "delete_text"): 0.25,
    ("random", "delete_text"): 0.4375,
}


def published(lake: Path, *keys: Key) -> str:
    """A published table of two levels that gives accuracy and these metrics."""
    run = run_row("published", example_count=0)
    rows = [
        dict(zip(("metric", "method", "operator", "variant"), key, strict=True))
        | {"run_id": run["run_id"], "level": level, "value": 0.5}
        for key in (("accuracy", "", "", ""), *keys)
        for level in (0, 1)
    ]
    return write(lake, run, reported=rows)


def test_explanations_match_headlines_and_other_metrics_have_no_method(tmp_path: Path) -> None:
    explained_run(tmp_path, drops=DROPS, copies=10)
    keys = query(tmp_path, "select metric, method, operator, variant from headline_keys").rows()
    result = {metric: key for metric, *key in keys}
    assert len(result) == len(keys)
    assert result["accuracy"] == result["ece"] == result["flip_rate"] == [None] * 3
    assert result["comprehensiveness"] == ["kernel_shap", "delete_text", "eraser"]
    assert result["sufficiency_advantage"] == ["kernel_shap", "delete_text", "eraser"]
    assert result["overlap_10"] == ["kernel_shap", None, None]


def test_difference_shap_comes_first_and_agreement_from_another_method(tmp_path: Path) -> None:
    drops = {
        (method, "delete_text"): 0.5
        for method in ("difference_shap", "kernel_shap", "lime", "random")
    }
    explained_run(tmp_path, drops=drops, copies=10)
    keys = query(tmp_path, "select metric, method, operator, variant from headline_keys").rows()
    result = {metric: key for metric, *key in keys}
    assert len(result) == len(keys)
    assert result["comprehensiveness"] == ["difference_shap", "delete_text", "eraser"]
    assert result["overlap_10"] == ["kernel_shap", None, None]
    assert query(tmp_path, "select method from headlines").item() == "difference_shap"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([("lime", "", ""), ("", "", "")], ("lime", None, None)),
        ([("", "", "")], (None, None, None)),
        ([("lime", "", "paper"), ("lime", "", "")], ("lime", None, "paper")),
        (
            [("lime", "replace", "paper"), ("shap", "replace", "eraser")],
            ("lime", "replace", "paper"),
        ),
    ],
)
def test_the_most_exactly_described_published_value_represents_a_metric(
    tmp_path: Path, told: list[tuple[str, str, str]], expected: tuple[str | None, ...]
) -> None:
    published(tmp_path, *(("comprehensiveness", *key) for key in told))
    rows = query(
        tmp_path,
        """
        select method, operator, variant
        from headline_keys
        where metric = 'comprehensiveness'
        """,
    ).rows()
    assert rows == [expected]


def test_there_is_one_row_for_each_run_level_and_metric(tmp_path: Path) -> None:
    explained_run(tmp_path, drops=DROPS, copies=10)
    judged_run(tmp_path)
    published_run(tmp_path)
    rows = query(tmp_path, "from headline_metrics")
    assert not rows.select("run_id", "level", "metric").is_duplicated().any()
    levels = query(tmp_path, "select run_id, unnest(levels) as level from runs").height
    assert rows.filter(metric="accuracy").height == rows.filter(metric="ece").height == levels


def test_a_row_has_the_values_of_the_views_for_its_key(tmp_path: Path) -> None:
    judged_run(tmp_path)
    key = {"level": 1, "metric": "ece"}
    (row,) = query(tmp_path, "from headline_metrics").filter(**key).to_dicts()
    for view, names in {
        "metrics": ("value", "ci_low", "ci_high", "n", "higher_is_better", "note"),
        "deltas": ("unpruned_value", "delta", "delta_low", "delta_high", "equivalence_low"),
        "verdicts": ("verdict", "is_shown_worse", "reason", "p_adjusted", "is_accuracy_stable"),
    }.items():
        rows = query(tmp_path, f"from {view} where variant is null")
        (expected,) = rows.filter(**key).select(names).to_dicts()
        assert {name: row[name] for name in names} == expected
    assert (row["is_judged"], row["is_shown_worse"]) == (True, True)
    assert row["verdict"] == "hidden degradation"


def test_explanations_have_the_value_of_a_random_ranking(tmp_path: Path) -> None:
    explained_run(tmp_path, drops=DROPS)
    rows = query(
        tmp_path,
        """
        select level, value, random_value
        from headline_metrics
        where metric = 'comprehensiveness'
        order by level
        """,
    ).rows()
    assert rows == [(0, 0.5, 0.4375), (1, 0.375, 0.3125), (2, 0.25, 0.1875)]


def test_a_metric_that_is_not_judged_has_no_verdict(tmp_path: Path) -> None:
    explained_run(tmp_path)
    rows = query(tmp_path, "from headline_metrics where not is_judged")
    assert rows["verdict"].null_count() == rows.height
    assert set(rows.filter(level=0)["metric"]) == set(query(tmp_path, "from metrics")["metric"])
    assert "mean_confidence" in set(rows.filter(level=1)["metric"])
    assert "accuracy" not in set(rows.filter(level=1)["metric"])


def test_correlations_match_the_keys(tmp_path: Path) -> None:
    explained_run(tmp_path, drops=DROPS)
    rows = query(tmp_path, "from headline_correlations")
    assert not rows.select("run_id", "metric", "scope").is_duplicated().any()
    assert rows.columns == query(tmp_path, "from correlations").columns
    (method,) = set(rows.filter(metric="comprehensiveness")["method"])
    assert method == "kernel_shap"
