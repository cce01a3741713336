"""The analysis of runs that lack scores, variation or examples: null with a note."""

import math
from pathlib import Path

import numpy as np
import pytest

from prunelake.schema.analysis_tables import NO_EXAMPLES_NOTE
from prunelake.schema.table import METRIC_KEY
from tests.support.runs.drawn_runs import (
    RUN,
    R,
    Rows,
    by_key,
    drawn_explanations,
    drawn_predictions,
)
from tests.support.runs.lake_rows import deletion, prediction, rows_of, write


def test_pairs_lack_examples_that_cannot_be_scored_at_either_level(tmp_path: Path) -> None:
    predictions = drawn_predictions()
    for i in range(4):
        predictions[30 + i] = prediction(R, 1, f"test:{i}", [math.nan, 0.0, 0.0])
    predictions[29] = prediction(R, 0, "test:29", [-math.inf, 0.0, 0.0])
    write(tmp_path, RUN, predictions=predictions)
    metrics = by_key(tmp_path)
    for name in ("accuracy", "nll", "ece", "aurc", "brier_calibration"):
        row = metrics[name, "", "", "", 1]
        assert (row["n"], row["paired_n"]) == (26, 25), name
        row = metrics[name, "", "", "", 2]
        assert (row["n"], row["paired_n"]) == (30, 29), name
    right = {(p["level"], p["example_id"]): p["is_correct"] for p in predictions}
    both = [f"test:{i}" for i in range(4, 29)]
    row = metrics["accuracy", "", "", "", 1]
    assert row["unpruned_value"] == pytest.approx(np.mean([right[0, name] for name in both]))
    assert row["paired_value"] == pytest.approx(np.mean([right[1, name] for name in both]))


def unscorable(level: int, n: int = 30) -> Rows:
    return [prediction(R, level, f"test:{i}", [math.nan, 0.0, 0.0]) for i in range(n)]


@pytest.mark.parametrize("gap", ["unscorable", "absent"])
@pytest.mark.parametrize("level", [0, 1])
def test_a_level_without_scores_is_null_with_a_note(tmp_path: Path, gap: str, level: int) -> None:
    rows = [p for p in drawn_predictions() if p["level"] != level]
    write(
        tmp_path,
        RUN,
        predictions=rows + (unscorable(level) if gap == "unscorable" else []),
    )
    metrics = by_key(tmp_path)
    names = {metric for metric, *_ in metrics}
    assert {"accuracy", "ece", "auroc", "brier_calibration", "flip_rate"} <= names
    for name in names:
        row = metrics[name, "", "", "", level]
        assert (row["value"], row["n"], row["ci_low"]) == (None, 0, None)
        assert row["note"] == "no example could be scored"
        for paired_level in {1, 2} - {level} if level == 0 else {level}:
            row = metrics[name, "", "", "", paired_level]
            assert row["paired_n"] == 0
            for column in ("paired_value", "unpruned_value", "delta", "delta_low", "p_value"):
                assert row[column] is None, column
            assert row["equivalence_low"] is None
            assert row["note"] is not None
    (row,) = rows_of(tmp_path, "from verdicts where metric = 'accuracy' and level = 1")
    assert (row["verdict"], row["is_accuracy_stable"]) == ("inconclusive", False)


def test_a_run_without_scorable_predictions_has_no_numbers(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=[p for level in (0, 1, 2) for p in unscorable(level)])
    metrics = by_key(tmp_path)
    assert {row["value"] for row in metrics.values()} == {None}
    assert {row["note"] for row in metrics.values()} == {"no example could be scored"}
    correlations = by_key(tmp_path, "correlations").values()
    assert {row["note"] for row in correlations} == {"fewer than 3 levels"}
    assert {row["pearson"] for row in correlations} == {None}


def test_a_run_without_predictions_still_has_metrics_of_explanations(tmp_path: Path) -> None:
    write(tmp_path, RUN, **drawn_explanations())
    metrics = by_key(tmp_path)
    assert metrics["accuracy", "", "", "", 0]["value"] is None
    row = metrics["comprehensiveness", "lime", "replace", "eraser", 1]
    assert row["n"] == 8
    assert row["p_value"] is not None


def test_a_single_example_has_values_but_no_standard_error(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(n=1))
    metrics = by_key(tmp_path)
    row = metrics["nll", "", "", "", 1]
    assert row["value"] is not None
    assert row["delta"] is not None
    assert row["ci_low"] is row["delta_se"] is row["p_value"] is None
    assert row["note"] == "a single example"
    assert metrics["auroc", "", "", "", 1]["value"] is None


@pytest.mark.parametrize("right", [True, False])
def test_auroc_is_null_if_all_are_right_or_all_wrong(tmp_path: Path, right: bool) -> None:
    rows = drawn_predictions()
    for row in rows:
        row["gold"] = row["prediction"] if right else (row["prediction"] + 1) % 3
        row["is_correct"] = row["is_correct_norm"] = right
    write(tmp_path, RUN, predictions=rows)
    metrics = by_key(tmp_path)
    for level in (0, 1, 2):
        row = metrics["auroc", "", "", "", level]
        assert (row["value"], row["note"]) == (None, "all predictions are right, or none")
        row = metrics["accuracy", "", "", "", level]
        assert row["value"] == float(right)
        assert row["note"] == "no variation among the examples"
    row = metrics["accuracy", "", "", "", 1]
    assert (row["delta"], row["p_value"]) == (0, 1)
    # None of 30 examples changed: changes of a few percent remain possible.
    assert row["equivalence_high"] == pytest.approx(1.645**2 / (30 + 1.645**2), rel=1e-3)


def test_a_metric_without_variation_has_no_interval(tmp_path: Path) -> None:
    rows = [
        deletion(R, level, f"test:{i}", 0.5, 0.1, kind=kind)
        for level in (0, 1, 2)
        for i in range(6)
        for kind in ("comprehensiveness", "sufficiency")
    ]
    write(tmp_path, RUN, predictions=drawn_predictions(), deletions=rows)
    for level in (0, 1):
        row = by_key(tmp_path)["sufficiency", "lime", "replace", "eraser", level]
        assert row["value"] == pytest.approx(0.1)
        assert row["ci_low"] is row["p_value"] is None
        assert row["note"] == "no variation among the examples"
    correlated = by_key(tmp_path, "correlations")
    row = correlated["sufficiency", "lime", "replace", "eraser", "all"]
    assert (row["note"], row["pearson"]) == ("constant metric", None)


def test_a_metric_that_does_not_change_is_not_tested(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(shift=0.0))
    for row in by_key(tmp_path).values():
        if row["level"] == 1 and row["metric"] not in ("accuracy", "accuracy_norm"):
            assert row["delta"] in (None, pytest.approx(0, abs=1e-12))
            assert row["p_value"] is None
            # The view `verdicts` tests the flip rate, at its margin.
            assert row["note"] is not None or row["metric"] == "flip_rate"


def test_published_metrics_have_no_interval_and_no_test(tmp_path: Path) -> None:
    values: dict[str, list[float]] = {
        "accuracy": [0.7, 0.6, 0.65, 0.5],
        "ece": [0.1, 0.2, 0.3],
    }
    rows = [
        {
            "run_id": R,
            "level": level,
            **dict.fromkeys(METRIC_KEY, ""),
            "metric": name,
            "value": value,
        }
        for name, given in values.items()
        for level, value in enumerate(given)
    ]
    write(tmp_path, RUN | {"levels": [0, 1, 2, 3]}, reported=rows)
    metrics = by_key(tmp_path)
    assert len(metrics) == 7
    row = metrics["ece", "", "", "", 1]
    assert (row["value"], row["unpruned_value"], row["delta"]) == (0.2, 0.1, pytest.approx(0.1))
    assert row["n"] is row["ci_low"] is row["p_value"] is None
    assert {row["note"] for row in metrics.values()} == {NO_EXAMPLES_NOTE}
    correlated = by_key(tmp_path, "correlations")
    row = correlated["ece", "", "", "", "all"]
    expected = np.corrcoef([0.7, 0.6, 0.65], [0.1, 0.2, 0.3])[0, 1]
    assert row["pearson"] == pytest.approx(expected)
    assert row["pearson_low"] is None
    assert row["level_count"] == 3
    stable = correlated["ece", "", "", "", "stable"]
    assert (stable["pearson"], stable["note"]) == (None, NO_EXAMPLES_NOTE)
    assert {row["verdict"] for row in rows_of(tmp_path, "from verdicts")} == {None}
