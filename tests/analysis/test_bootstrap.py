"""Each replicate of a metric equals the metric of the resampled rows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from prunelake.analysis import calibration, statistics
from prunelake.analysis.bootstrap import BootstrappedMetric, CalibrationBootstrap, bootstrap_metrics
from prunelake.analysis.example_scores import ExampleScores, MetricKey, build_example_scores

Array = NDArray[np.float64]

SEED, REPLICATES = 7, 6
ACCURACY: MetricKey = ("accuracy", "", "", "")
DROP: MetricKey = ("comprehensiveness", "lime", "replace", "eraser")


def example_scores(
    seed: int = 0, levels: int = 3, n: int = 40, explained: int = 12
) -> ExampleScores:
    """Scores whose levels have different gaps, in predictions and in explanations."""
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


def resampled_rows(scores: ExampleScores) -> list[NDArray[np.int64]]:
    """The indices of the examples in each resample, repeated as often as they were drawn."""
    weights = statistics.bootstrap_weights(scores.is_explained.astype(int), REPLICATES, SEED)
    return [np.repeat(np.arange(len(weights)), column.astype(int)) for column in weights.T]


@pytest.fixture(scope="module")
def scores() -> ExampleScores:
    return example_scores()


@pytest.fixture(scope="module")
def metrics_by_level(scores: ExampleScores) -> list[dict[MetricKey, BootstrappedMetric]]:
    return [dict(level) for level in bootstrap_metrics(scores, REPLICATES, SEED)]


def test_means_and_differences_equal_the_repeated_rows(
    scores: ExampleScores, metrics_by_level: list[dict[MetricKey, BootstrappedMetric]]
) -> None:
    for level in range(3):
        for k, key in enumerate(scores.metric_keys):
            metric, values, unpruned = (
                metrics_by_level[level][key],
                scores.values[level, :, k],
                scores.values[0, :, k],
            )
            both = ~np.isnan(values) & ~np.isnan(unpruned)
            assert metric.value == pytest.approx(np.nanmean(values))
            assert metric.n == (~np.isnan(values)).sum()
            assert metric.paired_n == both.sum()
            assert metric.paired_value == pytest.approx(values[both].mean())
            assert metric.baseline_value == pytest.approx(unpruned[both].mean())
            for replicate, rows in enumerate(resampled_rows(scores)):
                kept = rows[both[rows]]
                assert metric.replicates[replicate] == pytest.approx(
                    np.nanmean(values[rows]), abs=1e-5
                )
                expected = values[kept].mean() - unpruned[kept].mean()
                assert metric.differences[replicate] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["ece", "auroc", "aurc"])  # these use no bins of the sample
def test_calibration_metrics_and_differences_equal_the_repeated_rows(
    scores: ExampleScores, metrics_by_level: list[dict[MetricKey, BootstrappedMetric]], name: str
) -> None:
    def score(level: int, rows: NDArray[np.int64]) -> float:
        confidence, correct = scores.confidence[level, rows], scores.correct[level, rows]
        known = ~np.isnan(confidence)
        ones = np.ones((int(known.sum()), 1))
        return float(
            calibration.calibration_metrics(confidence[known], correct[known], ones)[name][0]
        )

    everyone = np.arange(40)
    for level in range(3):
        metric = metrics_by_level[level][name, "", "", ""]
        both = ~np.isnan(scores.confidence[0] + scores.confidence[level])
        assert metric.value == pytest.approx(score(level, everyone))
        assert metric.n == (~np.isnan(scores.confidence[level])).sum()
        assert metric.paired_n == both.sum()
        assert metric.paired_value == pytest.approx(score(level, everyone[both]))
        assert metric.baseline_value == pytest.approx(score(0, everyone[both]))
        for replicate, rows in enumerate(resampled_rows(scores)):
            assert metric.replicates[replicate] == pytest.approx(score(level, rows), abs=1e-5)
            kept = rows[both[rows]]
            expected = score(level, kept) - score(0, kept)
            assert metric.differences[replicate] == pytest.approx(expected, abs=1e-5)


def test_level_0_does_not_differ_from_itself(
    metrics_by_level: list[dict[MetricKey, BootstrappedMetric]],
) -> None:
    for metric in metrics_by_level[0].values():
        assert metric.paired_value == pytest.approx(metric.baseline_value, nan_ok=True)
        assert (np.isnan(metric.differences) | (metric.differences == 0)).all()


def test_every_level_has_every_metric(
    scores: ExampleScores, metrics_by_level: list[dict[MetricKey, BootstrappedMetric]]
) -> None:
    expected = {
        *scores.metric_keys,
        *((name, "", "", "") for name in calibration.CALIBRATION_METRICS),
    }
    assert [set(level) for level in metrics_by_level] == [expected] * 3


def test_the_seed_determines_the_resamples(scores: ExampleScores) -> None:
    for first, second in zip(
        bootstrap_metrics(scores, 20, 0), bootstrap_metrics(scores, 20, 0), strict=True
    ):
        for key, metric in first.items():
            assert np.array_equal(metric.replicates, second[key].replicates, equal_nan=True)
            assert np.array_equal(metric.differences, second[key].differences, equal_nan=True)
    of_another_seed = bootstrap_metrics(scores, 20, 1)[0]
    assert not np.array_equal(first[ACCURACY].replicates, of_another_seed[ACCURACY].replicates)


def test_each_resample_keeps_the_number_of_explained_examples(scores: ExampleScores) -> None:
    assert scores.is_explained.tolist() == [True] * 12 + [False] * 28
    for rows in resampled_rows(scores):
        assert (rows < 12).sum() == 12


def test_a_level_without_predictions_has_no_values() -> None:
    scores = example_scores()
    scores.confidence[1] = scores.correct[1] = np.nan
    scores.values[1, :, scores.metric_keys.index(ACCURACY)] = np.nan
    level = bootstrap_metrics(scores, REPLICATES, SEED)[1]
    for name in ("accuracy", *calibration.CALIBRATION_METRICS):
        metric = level[name, "", "", ""]
        assert (metric.n, metric.paired_n) == (0, 0)
        assert np.isnan(
            [metric.value, metric.paired_value, *metric.replicates, *metric.differences]
        ).all()


def test_a_level_has_values_but_no_differences_if_level_0_has_no_predictions() -> None:
    scores = example_scores()
    scores.confidence[0] = scores.correct[0] = np.nan
    metric = bootstrap_metrics(scores, REPLICATES, SEED)[1]["ece", "", "", ""]
    assert metric.n > 0
    assert not np.isnan(metric.replicates).any()
    assert metric.paired_n == 0
    assert np.isnan(metric.differences).all()


def test_a_resample_without_any_example_of_the_level_has_no_value() -> None:
    scores = example_scores(n=40, explained=12)
    only = 5  # of level 1
    for array in (scores.confidence, scores.correct):
        array[1, np.arange(40) != only] = np.nan
        array[1, only] = 0.5
    metric = bootstrap_metrics(scores, 200, SEED)[1]["ece", "", "", ""]
    weights = statistics.bootstrap_weights(scores.is_explained.astype(int), 200, SEED)
    assert 0 < (weights[only] == 0).sum() < 200
    assert np.array_equal(np.isnan(metric.replicates), weights[only] == 0)


def test_the_interval_of_an_ece_difference_holds_a_small_change_of_a_calibrated_model() -> None:
    generator, n, change, held = np.random.default_rng(3), 300, 0.03, []
    for seed in range(60):
        confidence = generator.uniform(0.3, 0.95, n)
        # Nine answers of ten stay the same.
        stays = generator.random(n) < 0.9
        luck, anew = generator.random((2, n))
        before = luck < confidence
        after = np.where(stays, luck, anew) < confidence
        weights = statistics.bootstrap_weights(np.zeros(n, dtype=int), 100, seed)
        bootstrap = CalibrationBootstrap(
            np.stack([confidence, confidence + change]),
            np.stack([before, after]).astype(float),
            weights,
        )
        difference = bootstrap.paired_metrics(1, 0)["ece"].difference
        held.append(difference.low <= change <= difference.high)
    assert np.mean(held) >= 0.93
