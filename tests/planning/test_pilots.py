"""The spread that a pilot shows."""

import math
from typing import Any

import pytest

from prunelake.planning.pilots import ASSUMED_SPREADS, measured_spread


def pilot(metric: str = "brier", **columns: Any) -> dict[str, Any]:
    row = {"metric": metric, "n": 100, "delta": 0.01, "delta_se": 0.02, "look_count": None}
    return row | {"equivalence_low": -0.05, "equivalence_high": 0.06} | columns


def test_the_spread_of_a_mean_is_its_standard_deviation() -> None:
    # Student's t with 99 degrees of freedom: 1.66039.
    half = 1.66039 * 0.02
    row = pilot(equivalence_low=0.01 - half, equivalence_high=0.01 + half)
    spread = measured_spread(row)
    assert spread is not None
    assert spread.sd == pytest.approx(0.2)
    assert (spread.degrees, spread.is_proportion) == (99, False)
    assert spread.excess == pytest.approx(0, abs=1e-5)


def test_the_extension_for_bias_is_the_excess_of_the_wider_side() -> None:
    spread = measured_spread(pilot(equivalence_low=-0.1, equivalence_high=0.05))
    assert spread is not None
    assert spread.excess == pytest.approx((0.11 - 1.66039 * 0.02) * 10, rel=1e-4)


def test_accuracy_is_known_by_its_discordant_examples() -> None:
    # 9 lost and 3 won of 100: the variance of the differences is 0.12 - 0.06^2.
    error = math.sqrt((0.12 - 0.06**2) / 99)
    spread = measured_spread(pilot("accuracy", delta=-0.06, delta_se=error))
    assert spread is not None
    assert spread.is_proportion
    assert spread.sd**2 == pytest.approx(13 / 102)
    assert spread.degrees == pytest.approx(2 * 13 / (1 - 13 / 102))


def test_an_accuracy_without_differences_still_has_a_spread() -> None:
    spread = measured_spread(pilot("accuracy", delta=0.0, delta_se=None))
    assert spread is not None
    assert spread.sd**2 == pytest.approx(1 / 102)


def test_other_metrics_without_an_error_have_no_spread() -> None:
    assert measured_spread(pilot(delta_se=None)) is None


def test_a_sequential_pilot_shows_its_error_but_not_its_bias() -> None:
    spread = measured_spread(pilot("ece", look_count=3))
    assert spread is not None
    assert spread.sd == pytest.approx(0.2)
    assert spread.excess == ASSUMED_SPREADS["ece"].excess
