"""The variation of the temperature: oracles are fits to the resamples, and repeated samples."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from prunelake.analysis import statistics
from prunelake.analysis.calibrators import fit
from prunelake.analysis.confidence import option_probabilities
from prunelake.analysis.recalibration.before_and_after import recalibrate
from prunelake.analysis.recalibration.cross_fitting import cross_fit
from prunelake.analysis.recalibration.fit_variation import log_temperature_shifts, metric_slopes
from prunelake.schema.arrays import FloatArray
from tests.support.runs.recalibrated_runs import drawn, scores_and_options


def test_a_shift_equals_a_temperature_fitted_to_the_resample() -> None:
    log_likelihoods, gold = drawn(300)
    values = log_likelihoods[1].copy()
    values[:40, 2] = -np.inf  # some examples have two options
    gold = np.where(np.arange(300) < 40, gold % 2, gold)
    correct = (values.argmax(axis=1) == gold).astype(float)
    temperature = fit("temperature", values, gold, correct).parameters["temperature"]
    weights = statistics.bootstrap_weights(np.zeros(300, dtype=int), 20, 3)
    shifts = log_temperature_shifts(values, gold, temperature, weights)
    refitted = []
    for chosen in weights.T:
        rows = np.repeat(np.arange(300), chosen.astype(int))
        calibrator = fit("temperature", values[rows], gold[rows], correct[rows])
        refitted.append(np.log(calibrator.parameters["temperature"] / temperature))
    assert np.sqrt(np.mean((shifts - refitted) ** 2)) < 0.25 * np.std(refitted)


def test_a_slope_is_the_change_of_the_metric_with_the_logarithm_of_the_temperature() -> None:
    probabilities = np.array([[0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    slopes = metric_slopes(probabilities, 1e-4, lambda p: {"first": float(p[0, 0])})
    # d p / d log T = -p (log p - sum of p log p)
    p = probabilities[0]
    expected = -p[0] * (np.log(p[0]) - (p * np.log(p)).sum())
    assert abs(slopes["first"] - expected) < 1e-6


def test_without_a_step_of_the_temperature_there_is_no_slope() -> None:
    assert metric_slopes(np.array([[0.5, 0.5]]), 0.0, lambda p: {"first": float(p[0, 0])}) == {
        "first": 0.0
    }


def test_the_error_of_a_gain_is_its_spread_over_samples() -> None:
    n, gains, errors = 200, [], []
    for seed in range(60):
        # Level 0 is calibrated, so its temperature is 1 apart from noise; level 1 is not.
        (unpruned, pruned), gold = drawn(n, seed)
        calibrator = fit("temperature", unpruned, gold, np.zeros(n))
        weights = statistics.bootstrap_weights(np.zeros(n, dtype=int), 100, seed)
        shifts = log_temperature_shifts(
            unpruned, gold, calibrator.parameters["temperature"], weights
        )

        def nll(p: FloatArray, gold: NDArray[np.int64] = gold) -> FloatArray:
            return np.asarray(-np.log(p[np.arange(len(p)), gold]))

        after = calibrator.probabilities(pruned)

        def mean_nll(p: FloatArray, nll: Callable[..., FloatArray] = nll) -> dict[str, float]:
            return {"nll": float(nll(p).mean())}

        slopes = metric_slopes(after, float(shifts.std()), mean_nll)
        gain = nll(option_probabilities(pruned)) - nll(after)
        gains.append(gain.mean())
        errors.append(np.std(gain @ weights / n - slopes["nll"] * shifts))
    assert 0.75 < np.mean(errors) / np.std(gains) < 1.25
    assert np.mean(np.array(gains) > 1.97 * np.array(errors)) <= 0.1


def test_the_interval_of_the_unpruned_temperature_includes_its_variation() -> None:
    scores, options = scores_and_options(*drawn())
    rows = {
        (row["level"], row["calibrator"]): row
        for row in recalibrate(scores, options, 100, 0)["recalibrated"]
        if row["metric"] == "nll"
    }
    own, unpruned = rows[1, "temperature"], rows[1, "unpruned_temperature"]
    # The maps of level 1 need a temperature near 3; the temperature of level 0 is near 1, and
    # varies.
    weights = statistics.bootstrap_weights(np.zeros(200, dtype=int), 100, 0)
    fitted = cross_fit(scores, options, 0)["unpruned_temperature"][1].probabilities
    assert fitted is not None
    gold = options.gold[1]
    gain = np.log(fitted[np.arange(200), gold])
    gain -= np.log(option_probabilities(options.log_likelihoods[1])[np.arange(200), gold])
    conditional = np.std(gain @ weights / 200) * np.sqrt(200 / 199)
    assert unpruned["gain_high"] - unpruned["gain_low"] > 1.2 * 2 * 1.97 * conditional
    assert own["gain_low"] > 0
