"""Group-sequential boundaries: oracles are gsDesign's published values and simulated sequences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from prunelake.analysis.sequential import (
    ONE_LOOK,
    LookTimes,
    look_times,
    nominal_level,
    repeated_p_value,
    spent_error,
)


@pytest.mark.parametrize(
    ("times", "boundaries"),
    [
        # R's gsDesign(k = 3) and gsDesign(k = 5): one-sided 0.025, Hwang-Shih-DeCani, gamma -4.
        ((1 / 3, 2 / 3, 1.0), (3.010739, 2.546531, 1.999226)),
        ((0.2, 0.4, 0.6, 0.8, 1.0), (3.252668, 2.986046, 2.691657, 2.373667, 2.025321)),
    ],
)
def test_boundaries_equal_gsdesign(times: tuple[float, ...], boundaries: tuple[float, ...]) -> None:
    for count, boundary in enumerate(boundaries, start=1):
        assert norm.isf(nominal_level(times[:count], 0.025)) == pytest.approx(boundary, abs=2e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_without_a_change_the_rejections_equal_the_spent_error(
    alpha: float,
) -> None:
    times = (0.07, 0.11, 0.3, 0.35, 0.8, 1.0)
    generator = np.random.default_rng(3)
    steps = np.sqrt(np.diff((0.0, *times)))
    scores = (generator.normal(size=(200_000, len(times))) * steps).cumsum(axis=1)
    levels = [nominal_level(times[: k + 1], alpha) for k in range(len(times))]
    is_rejected = scores / np.sqrt(times) > norm.isf(levels)
    for count, time in enumerate(times, start=1):
        rate = is_rejected[:, :count].any(axis=1).mean()
        assert rate == pytest.approx(spent_error(time, alpha), abs=0.0016)


def test_one_look_at_all_examples_is_the_usual_test() -> None:
    assert nominal_level((1.0,), 0.05) == pytest.approx(0.05)
    assert ONE_LOOK.p_value(0.03) == 0.03
    assert (ONE_LOOK.confidence, ONE_LOOK.equivalence_confidence) == (0.95, 0.9)
    assert np.isnan(LookTimes((0.5, 1.0)).p_value(np.nan))


times_lists = st.lists(st.integers(1, 20), min_size=1, max_size=6, unique=True).map(
    lambda counts: tuple(count / 20 for count in sorted(counts))
)


@settings(deadline=None, max_examples=30)
@given(times_lists, st.floats(0.001, 0.5))
def test_the_repeated_p_value_is_the_error_that_just_rejects(
    times: tuple[float, ...], alpha: float
) -> None:
    nominal = nominal_level(times, alpha)
    assert nominal <= alpha * 1.0001
    if nominal > 1e-12:
        assert repeated_p_value(times, nominal) == pytest.approx(alpha, rel=0.02)
    looks = LookTimes(times)
    assert looks.p_value(0.01) >= 0.01 * 0.999
    assert looks.confidence >= 0.95 - 1e-9
    assert looks.factor >= 0.999


def test_looks_with_few_or_no_new_examples_or_beyond_the_plan_do_not_count() -> None:
    assert look_times([0, 40, 100, 100, 250, 500, 900], 500) == (0.2, 0.5, 1.0)
    assert look_times([10, 40], 40) == (1.0,)
    assert look_times([0, 49], 500) == ()


def test_without_a_look_nothing_is_tested() -> None:
    none = LookTimes(())
    assert none.is_sequential
    assert none.p_value(1e-9) == 1
    assert 1 - none.equivalence_confidence < 1e-12
    assert none.factor == 1e6
