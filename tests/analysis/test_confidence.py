import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import logsumexp

from prunelake.analysis.confidence import log_option_probabilities, option_probabilities


@given(arrays(np.float64, (2, 3, 4), elements=st.floats(-2000, 0)))
def test_probabilities_are_normalised_over_the_options(values: NDArray[np.float64]) -> None:
    expected = np.exp(values - logsumexp(values, axis=-1, keepdims=True))
    np.testing.assert_allclose(option_probabilities(values), expected, atol=1e-12)
    np.testing.assert_allclose(np.exp(log_option_probabilities(values)), expected, atol=1e-12)


@given(arrays(np.float64, (6, 5), elements=st.floats(-30, 0)), st.permutations(range(5)))
def test_the_order_of_the_options_changes_no_bit(
    values: NDArray[np.float64], order: list[int]
) -> None:
    for function in (option_probabilities, log_option_probabilities):
        assert np.array_equal(function(values[:, order]), function(values)[:, order])


def test_a_missing_option_has_no_probability() -> None:
    padded = np.array([-1.0, -2.0, -math.inf])
    assert option_probabilities(padded)[2] == 0
    assert option_probabilities(padded)[:2] == pytest.approx(option_probabilities(padded[:2]))
