"""Replicates of every metric: each equals the metric computed anew on the repeated rows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from prunelake.analysis import calibration, statistics
from prunelake.analysis.bootstrap import BootstrappedMetric, bootstrap_metrics
from prunelake.analysis.example_scores import ExampleScores, MetricKey, build_example_scores

Array = NDArray[np.float64]

SEED, REPLICATES = 7, 6
ACCURACY: MetricKey = ("accuracy", "", "", "")
DROP: MetricKey = ("comprehensiveness", "lime", "replace", "eraser")


def evidence(seed: int = 0, levels: int = 3, n: int = 40, explained: int = 12) -> ExampleScores:
    """Levels of which each has gaps of its own, in its predictions and in its explanations."""
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.25, 1, (levels, n))
    correct = (generator.random((levels, n)) < confidence).astype(float)
    gaps = generator.random((levels, n)) < 0.1
    confidence[gaps] = correct[gaps] = np.nan
    values = np.full((levels, n, 2), np.nan)
    values[:, :, 0] = correct
    values[:, :explained, 1] = generator.normal(size=(levels, explained))
    values[1, 3, 1] = np.nan
    names = tuple(f"test:{i}" for i in range(n))
    return build_example_scores(
        tuple(range(levels)), (ACCURACY, DROP), values, confidence, correct, names
    )


def repeated(found: ExampleScores) -> list[NDArray[np.int64]]:
    """The examples of each resample, as often as it has them."""
    weights = statistics.bootstrap_weights(found.is_explained.astype(int), REPLICATES, SEED)
    return [np.repeat(np.arange(len(weights)), column.astype(int)) for column in weights.T]


@pytest.fixture(scope="module")
def found() -> ExampleScores:
    return evidence()


@pytest.fixture(scope="module")
def measured(found: ExampleScores) -> list[dict[MetricKey, BootstrappedMetric]]:
    return [dict(level) for level in bootstrap_metrics(found, REPLICATES, SEED)]


def test_means_and_their_differences(
    found: ExampleScores, measured: list[dict[MetricKey, BootstrappedMetric]]
) -> None:
    for level in range(3):
        for k, cell in enumerate(found.metric_keys):
            one, own, unpruned = (
                measured[level][cell],
                found.values[level, :, k],
                found.values[0, :, k],
            )
            both = ~np.isnan(own) & ~np.isnan(unpruned)
            assert one.value == pytest.approx(np.nanmean(own))
            assert one.n == (~np.isnan(own)).sum()
            assert one.paired_n == both.sum()
            assert one.paired_value == pytest.approx(own[both].mean())
            assert one.unpruned_value == pytest.approx(unpruned[both].mean())
            for replicate, rows in enumerate(repeated(found)):
                kept = rows[both[rows]]
                assert one.replicates[replicate] == pytest.approx(np.nanmean(own[rows]), abs=1e-5)
                expected = own[kept].mean() - unpruned[kept].mean()
                assert one.differences[replicate] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["ece", "auroc", "aurc"])  # those whose bins are no one sample's
def test_scores_and_their_differences(
    found: ExampleScores, measured: list[dict[MetricKey, BootstrappedMetric]], name: str
) -> None:
    def score(level: int, rows: NDArray[np.int64]) -> float:
        confidence, correct = found.confidence[level, rows], found.correct[level, rows]
        known = ~np.isnan(confidence)
        ones = np.ones((int(known.sum()), 1))
        return float(
            calibration.calibration_metrics(confidence[known], correct[known], ones)[name][0]
        )

    everyone = np.arange(40)
    for level in range(3):
        one = measured[level][name, "", "", ""]
        both = ~np.isnan(found.confidence[0] + found.confidence[level])
        assert one.value == pytest.approx(score(level, everyone))
        assert one.n == (~np.isnan(found.confidence[level])).sum()
        assert one.paired_n == both.sum()
        assert one.paired_value == pytest.approx(score(level, everyone[both]))
        assert one.unpruned_value == pytest.approx(score(0, everyone[both]))
        for replicate, rows in enumerate(repeated(found)):
            assert one.replicates[replicate] == pytest.approx(score(level, rows), abs=1e-5)
            kept = rows[both[rows]]
            expected = score(level, kept) - score(0, kept)
            assert one.differences[replicate] == pytest.approx(expected, abs=1e-5)


def test_level_0_differs_from_itself_by_nothing(
    measured: list[dict[MetricKey, BootstrappedMetric]],
) -> None:
    for one in measured[0].values():
        assert one.paired_value == pytest.approx(one.unpruned_value, nan_ok=True)
        assert (np.isnan(one.differences) | (one.differences == 0)).all()


def test_all_cells_at_all_levels(
    found: ExampleScores, measured: list[dict[MetricKey, BootstrappedMetric]]
) -> None:
    expected = {
        *found.metric_keys,
        *((name, "", "", "") for name in calibration.CALIBRATION_METRICS),
    }
    assert [set(level) for level in measured] == [expected] * 3


def test_it_follows_from_the_seed(found: ExampleScores) -> None:
    for again, other in zip(
        bootstrap_metrics(found, 20, 0), bootstrap_metrics(found, 20, 0), strict=True
    ):
        for cell, one in again.items():
            assert np.array_equal(one.replicates, other[cell].replicates, equal_nan=True)
            assert np.array_equal(one.differences, other[cell].differences, equal_nan=True)
    other = bootstrap_metrics(found, 20, 1)[0]
    assert not np.array_equal(again[ACCURACY].replicates, other[ACCURACY].replicates)


def test_explained_examples_are_drawn_among_themselves(found: ExampleScores) -> None:
    assert found.is_explained.tolist() == [True] * 12 + [False] * 28
    for rows in repeated(found):
        assert (rows < 12).sum() == 12


def test_a_level_without_predictions_measures_nothing() -> None:
    found = evidence()
    found.confidence[1] = found.correct[1] = np.nan
    found.values[1, :, found.metric_keys.index(ACCURACY)] = np.nan
    level = bootstrap_metrics(found, REPLICATES, SEED)[1]
    for name in ("accuracy", *calibration.CALIBRATION_METRICS):
        one = level[name, "", "", ""]
        assert (one.n, one.paired_n) == (0, 0)
        assert np.isnan([one.value, one.paired_value, *one.replicates, *one.differences]).all()


def test_a_level_0_without_predictions_leaves_nothing_to_compare_with() -> None:
    found = evidence()
    found.confidence[0] = found.correct[0] = np.nan
    one = bootstrap_metrics(found, REPLICATES, SEED)[1]["ece", "", "", ""]
    assert one.n > 0
    assert not np.isnan(one.replicates).any()
    assert one.paired_n == 0
    assert np.isnan(one.differences).all()


def test_a_resample_of_none_of_a_levels_examples_has_no_value() -> None:
    found = evidence(n=40, explained=12)
    only = 5  # of level 1
    for array in (found.confidence, found.correct):
        array[1, np.arange(40) != only] = np.nan
        array[1, only] = 0.5
    one = bootstrap_metrics(found, 200, SEED)[1]["ece", "", "", ""]
    weights = statistics.bootstrap_weights(found.is_explained.astype(int), 200, SEED)
    assert 0 < (weights[only] == 0).sum() < 200
    assert np.array_equal(np.isnan(one.replicates), weights[only] == 0)
