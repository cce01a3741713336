"""The forecast of flips: properties, its own model simulated, and the posterior by quadrature."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad
from scipy.special import expit

from prunelake.analysis.flip_forecast import FlipForecast, FlipModel
from prunelake.schema.arrays import FloatArray

MARGINS = st.lists(st.floats(0, 50), min_size=2, max_size=40).map(np.array)


def forecast_flips(pilot: FloatArray, flips: np.ndarray, others: FloatArray) -> FlipForecast:
    """The forecast from a pilot that comes first."""
    margins = np.concatenate([pilot, others])
    return FlipModel(margins).forecast(np.arange(len(margins)) < len(pilot), flips)


def halves(margins: FloatArray, seed: int) -> tuple[FloatArray, np.ndarray, FloatArray]:
    """A pilot of the first half of the margins with random flips, and the other margins."""
    pilot = len(margins) // 2
    flips = np.random.default_rng(seed).random(pilot) < 0.3
    return margins[:pilot], flips, margins[pilot:]


@settings(max_examples=25, deadline=None)
@given(MARGINS, st.integers(0, 9), st.floats(0.01, 100))
def test_a_forecast_is_a_share_in_its_interval_and_keeps_what_was_observed(
    margins: FloatArray, seed: int, unit: float
) -> None:
    pilot, flips, others = halves(margins, seed)
    found = forecast_flips(pilot, flips, others)
    total = len(margins)
    assert flips.sum() / total <= found.low <= found.high
    assert found.high <= (flips.sum() + len(others)) / total + 1e-12
    # The unit of the margins does not matter, nor does the order of the examples.
    again = forecast_flips(unit * pilot[::-1], flips[::-1], unit * others[::-1])
    assert again == pytest.approx(found, rel=1e-6, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(MARGINS, st.integers(0, 9))
def test_one_more_flip_in_the_pilot_raises_the_forecast(margins: FloatArray, seed: int) -> None:
    pilot, flips, others = halves(margins, seed)
    stays = np.flatnonzero(~flips)
    if not len(stays):
        return
    more = flips.copy()
    more[stays[np.argmax(pilot[stays])]] = True
    assert forecast_flips(pilot, more, others).rate > forecast_flips(pilot, flips, others).rate


def test_a_complete_pilot_is_its_own_forecast() -> None:
    flips = np.array([True, False, False, False])
    assert forecast_flips(np.ones(4), flips, np.array([])) == FlipForecast(0.25, 0.25, 0.25)


def test_the_forecast_is_the_mean_of_the_posterior_by_quadrature() -> None:
    pilot = np.array([0.1, 0.4, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0])
    flips = np.array([1, 1, 0, 1, 0, 0, 0, 0], dtype=bool)
    others = np.array([0.2, 0.8, 2.5, 5.0])
    scale = np.concatenate([pilot, others]).mean()

    def density(a: float, log_s: float) -> float:
        p = expit(a - pilot / (scale * np.exp(log_s)))
        return float(np.where(flips, p, 1 - p).prod() * np.exp(-(a**2) / 2))

    def weighted(a: float, log_s: float) -> float:
        return density(a, log_s) * float(expit(a - others / (scale * np.exp(log_s))).mean())

    box = (np.log(0.002), np.log(5.0), -4, 4)
    mean = dblquad(weighted, *box, epsrel=1e-5)[0] / dblquad(density, *box, epsrel=1e-5)[0]
    rate = forecast_flips(pilot, flips, others).rate
    assert rate == pytest.approx((3 + 4 * mean) / 12, abs=2e-3)


def test_the_forecast_errs_less_than_the_pilot_and_its_interval_holds() -> None:
    generator = np.random.default_rng(5)
    errors, of_pilot, covered = [], [], []
    for scale in np.repeat([0.1, 0.3, 1.0], 50):
        margins = generator.exponential(2.0, 300)
        is_flip = generator.logistic(0, scale, 300) > margins
        found = forecast_flips(margins[:50], is_flip[:50], margins[50:])
        true = is_flip.mean()
        errors.append(found.rate - true)
        of_pilot.append(is_flip[:50].mean() - true)
        covered.append(found.low <= true <= found.high)
    assert np.sqrt(np.mean(np.square(errors))) < 0.9 * np.sqrt(np.mean(np.square(of_pilot)))
    assert abs(np.mean(errors)) < 0.015
    assert 0.9 < np.mean(covered) <= 1
