"""Metrics of confidence: the oracles are plain loops, other libraries and repeated rows."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import foldnorm
from sklearn.metrics import roc_auc_score

from prunelake.analysis import calibration, statistics

Array = NDArray[np.float64]
Predictions = tuple[Array, Array]
Score = Callable[[Array, Array, Array], NDArray[np.floating]]

without_deadline = settings(deadline=None)  # a busy machine may be slow

confidences = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 1.0]))


@st.composite
def predictions(draw: st.DrawFn, min_size: int = 1) -> Predictions:
    """Confidence and correctness, with ties and constants, sometimes all right or all wrong."""
    rows = draw(st.lists(st.tuples(confidences, st.booleans()), min_size=min_size, max_size=40))
    confidence, correct = np.array(rows, dtype=float).T
    return confidence, correct


@st.composite
def resampled(draw: st.DrawFn) -> tuple[Array, Array, NDArray[np.int_]]:
    confidence, correct = draw(predictions())
    picks = st.integers(0, len(confidence) - 1)
    picked = draw(st.lists(picks, min_size=len(confidence), max_size=len(confidence)))
    return confidence, correct, np.bincount(picked, minlength=len(confidence))


def sample(seed: int, n: int) -> Predictions:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.25, 1, n)
    return confidence, (generator.random(n) < confidence**1.5).astype(float)


def sample_value(score: Score, confidence: Array, correct: Array) -> float:
    """The value of a metric for the sample itself."""
    (value,) = score(confidence, correct, np.ones((len(confidence), 1)))
    return float(value)


def weighted_value(
    score: Score, confidence: Array, correct: Array, weights: NDArray[np.int_]
) -> float:
    (value,) = score(confidence, correct, weights[:, None].astype(float))
    return float(value)


def auroc(confidence: Array, correct: Array, weights: Array) -> NDArray[np.floating]:
    return calibration.ranking_metrics(confidence, correct, weights)[0]


def aurc(confidence: Array, correct: Array, weights: Array) -> NDArray[np.floating]:
    return calibration.ranking_metrics(confidence, correct, weights)[1]


@without_deadline
@given(predictions())
def test_ece_is_the_mean_gap_over_ten_bins(given: Predictions) -> None:
    confidence, correct = given
    expected = 0.0
    for k in range(10):
        members = [
            i
            for i, c in enumerate(confidence)
            if (k <= c * 10 < k + 1) or (k == 9 and c == 1)  # the last bin is closed
        ]
        if members:
            gap = confidence[members].mean() - correct[members].mean()
            expected += len(members) / len(confidence) * abs(gap)
    assert sample_value(calibration.ece, confidence, correct) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n", [20, 37, 300])
def test_debiased_ece_equals_uncertainty_calibration(n: int) -> None:
    from calibration.utils import normal_debiased_ce

    confidence, correct = sample(n, n)
    rows = np.column_stack([confidence, correct])[np.argsort(confidence)]
    bins = [list(b) for b in np.array_split(rows, 10)]
    np.random.seed(0)  # the oracle draws from numpy's global state
    drawn = normal_debiased_ce(bins, power=1, resamples=20_000)
    assert sample_value(calibration.ece_debiased, confidence, correct) == pytest.approx(
        drawn, abs=4e-3
    )


def test_debiased_ece_keeps_equal_confidences_in_one_bin() -> None:
    confidence = np.full(50, 0.7)
    correct = (np.arange(50) < 30).astype(float)
    spread = np.sqrt(0.6 * 0.4 / 50)
    expected = 2 * 0.1 - foldnorm.mean(0.1 / spread, scale=spread)
    assert sample_value(calibration.ece_debiased, confidence, correct) == pytest.approx(expected)


@without_deadline
@given(predictions(min_size=2))
def test_debiased_ece_is_nan_below_two_examples_a_bin(given: Predictions) -> None:
    confidence, correct = given
    value = sample_value(calibration.ece_debiased, confidence, correct)
    if len(set(confidence)) == len(confidence):
        assert np.isnan(value) == (len(confidence) < 20)


@without_deadline
@given(st.integers(0, 2**32 - 1))
def test_debiased_ece_of_a_resample_uses_the_bins_of_the_sample(seed: int) -> None:
    confidence, correct = sample(seed, 60)
    weights = np.random.default_rng(seed).multinomial(60, np.full(60, 1 / 60))
    expected = 0.0
    for members in np.array_split(np.argsort(confidence), 10):
        repeated = np.repeat(members, weights[members])
        if not len(repeated):
            continue
        right = correct[repeated].mean()
        gap = abs(confidence[repeated].mean() - right)
        spread = np.sqrt(right * (1 - right) / len(repeated))
        chance = foldnorm.mean(gap / spread, scale=spread) if spread > 0 else gap
        expected += len(repeated) / 60 * (2 * gap - chance)
    value = weighted_value(calibration.ece_debiased, confidence, correct, weights)
    assert value == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=15)
@given(predictions())
def test_smooth_ece_of_the_sample_equals_relplots(given: Predictions) -> None:
    import relplot

    confidence, correct = given
    assert sample_value(calibration.smooth_ece, confidence, correct) == relplot.smECE(
        confidence, correct
    )


@pytest.mark.parametrize("n", [30, 300, 3000])
@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_smooth_ece_of_a_resample_equals_relplots_at_the_bandwidth_of_the_sample(
    n: int, sharpness: float
) -> None:
    import relplot

    confidence, correct = sample(n, n)
    confidence = confidence**sharpness
    _, width = relplot.smECE(confidence, correct, return_width=True)
    weights = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n))
    repeated = np.repeat(np.arange(n), weights)
    expected = relplot.smECE_sigma(confidence[repeated], correct[repeated], width)
    value = weighted_value(calibration.smooth_ece, confidence, correct, weights)
    assert value == pytest.approx(expected, abs=1e-3)


@without_deadline
@given(resampled())
def test_auroc_equals_scikit_learn(given: tuple[Array, Array, NDArray[np.int_]]) -> None:
    confidence, correct, weights = given
    for counts in (np.ones_like(weights), weights):
        value = weighted_value(auroc, confidence, correct, counts)
        if len(set(correct[counts > 0])) < 2:
            assert np.isnan(value)
        else:
            expected = roc_auc_score(correct, confidence, sample_weight=counts)
            assert value == pytest.approx(expected, abs=1e-9)


@without_deadline
@given(predictions())
def test_aurc_is_the_mean_error_rate_of_examples_at_least_as_confident(
    given: Predictions,
) -> None:
    confidence, correct = given
    risks = [1 - correct[confidence >= c].mean() for c in confidence]
    assert sample_value(aurc, confidence, correct) == pytest.approx(np.mean(risks), abs=1e-12)


@pytest.mark.parametrize("score", [calibration.ece, auroc, aurc])
@without_deadline
@given(given=resampled())
def test_weights_have_the_effect_of_repeated_rows(
    score: Score, given: tuple[Array, Array, NDArray[np.int_]]
) -> None:
    confidence, correct, weights = given
    repeated = np.repeat(np.arange(len(weights)), weights)
    value = weighted_value(score, confidence, correct, weights)
    expected = sample_value(score, confidence[repeated], correct[repeated])
    assert value == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_replicates_do_not_affect_each_other_in_single_precision_either() -> None:
    confidence, correct = sample(0, 200)
    weights = np.random.default_rng(0).multinomial(200, np.full(200, 1 / 200), size=7).T
    together = calibration.calibration_metrics(confidence, correct, weights.astype(np.float32))
    assert tuple(together) == calibration.CALIBRATION_METRICS
    for k in range(7):
        alone = calibration.calibration_metrics(confidence, correct, weights[:, [k]].astype(float))
        for name in calibration.CALIBRATION_METRICS:
            assert together[name][k] == pytest.approx(alone[name][0], abs=1e-5)


def test_a_resample_without_examples_has_no_value() -> None:
    confidence, correct = sample(0, 40)
    weights = np.where([True, False], 1.0, np.nan) * np.ones((40, 1))
    for name, values in calibration.calibration_metrics(confidence, correct, weights).items():
        assert list(np.isnan(values)) == [False, True], name


@without_deadline
@given(predictions())
def test_the_brier_score_is_the_sum_of_calibration_and_refinement(given: Predictions) -> None:
    confidence, correct = given
    parts, refinement, optimism = calibration.brier_decomposition(confidence, correct)
    brier = (confidence - correct) ** 2
    assert parts + refinement == pytest.approx(brier)
    assert parts.mean() >= -1e-12
    assert 0 <= optimism <= 0.5
    assert 0 <= refinement.mean() <= brier.mean() + 1e-12
    # A confidence that equals the share of right predictions needs no recalibration.
    groups = np.unique(np.round(confidence * 3), return_inverse=True)[1]
    shares = np.bincount(groups, correct) / np.bincount(groups)
    if (np.diff(shares) >= 0).all():
        assert calibration.brier_decomposition(shares[groups], correct)[0] == pytest.approx(
            0, abs=1e-12
        )


def test_refinement_is_the_smallest_error_after_any_increasing_recalibration() -> None:
    confidence, correct = sample(1, 12)
    order = np.argsort(confidence)
    # Isotonic regression by its min-max formula: for each index, the maximum over starts of the
    # minimum over ends of the mean between them.
    best = [
        max(min(correct[order][a : b + 1].mean() for b in range(i, 12)) for a in range(i + 1))
        for i in range(12)
    ]
    _, refinement, optimism = calibration.brier_decomposition(confidence, correct)
    assert refinement[order] == pytest.approx((best - correct[order]) ** 2)
    assert optimism == pytest.approx(sum(p * (1 - p) for p in set(np.round(best, 12))) / 6)


def test_optimism_is_the_error_of_a_recalibration_fitted_to_the_sample_itself() -> None:
    # The confidences are calibrated, so that mean calibration should be 0.
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(200):
        confidence = generator.uniform(0.25, 1, 300)
        correct = (generator.random(300) < confidence).astype(float)
        parts, _, optimism = calibration.brier_decomposition(confidence, correct)
        samples.append((parts.mean(), optimism))
    calibration_error, optimism = np.mean(samples, axis=0)
    assert calibration_error > 0.004
    assert calibration_error == pytest.approx(optimism, rel=0.15)


def test_the_block_size_does_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    confidence = np.round(generator.random(60), 1)  # with ties
    correct = (generator.random(60) < confidence).astype(float)
    weights = statistics.bootstrap_weights(np.zeros(60, dtype=int), 25, seed=0)
    whole = calibration.calibration_metrics(confidence, correct, weights)
    monkeypatch.setattr(calibration, "BLOCK_ELEMENTS", 7 * 60)
    in_blocks = calibration.calibration_metrics(confidence, correct, weights)
    for name, values in whole.items():
        np.testing.assert_array_equal(in_blocks[name], values)
        assert len(values) == 25
