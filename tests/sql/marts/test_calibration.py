"""reliability and calibration: rows by hand; on random rows the oracle is scipy."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import entropy, mannwhitneyu

from prunelake.analysis.calibration import BIN_COUNT, equal_width_bins
from tests.support.endurance import repeats
from tests.support.runs.lake_rows import (
    prediction,
    rows_of,
)
from tests.support.runs.one_run import HALF, LN2, SECOND, SURE, R, predicted


def confident(
    example_id: str, confidence: float, is_correct: bool, level: int = 0
) -> dict[str, Any]:
    """A prediction of the first of two options or, if its confidence is 1 / n, of n options.

    The confidences 0, 0.1, 0.2, 0.5 and 1 are exact. It need not be the most likely option.
    """
    if confidence in (0.1, 0.2, 0.5):
        options = [0.0] * round(1 / confidence)
    else:
        odds = np.clip([confidence, 1 - confidence], math.exp(-700), 1)
        options = np.log(odds).tolist()
    row = prediction(R, level, example_id, options)
    return row | {"prediction": 0, "is_correct": is_correct, "gold": 0 if is_correct else 1}


def test_reliability_has_closed_lower_bounds_and_a_closed_last_bin(tmp_path: Path) -> None:
    lake = predicted(
        tmp_path,
        [
            confident("a", 0.5, True),
            confident("b", 0.59, False),
            confident("c", 0.61, True),
            confident("d", 0.95, True),
            confident("e", 1.0, False),
            confident("f", 0.0, True),
        ],
    )
    rows = rows_of(lake, "from reliability order by bin")
    assert [(r["bin"], r["n"]) for r in rows] == [(0, 1), (5, 2), (6, 1), (9, 2)]
    assert rows[1] == {
        "run_id": R,
        "level": 0,
        "bin": 5,
        "bin_low": 0.5,
        "bin_high": 0.6,
        "n": 2,
        "mean_confidence": pytest.approx(0.545),
        "accuracy": 0.5,
    }
    (calibration,) = rows_of(lake, "from calibration")
    # 1/6 |1 - 0| + 2/6 |.5 - .545| + 1/6 |1 - .61| + 2/6 |.5 - .975|
    assert calibration["ece"] == pytest.approx((1 + 0.09 + 0.39 + 0.95) / 6)


def test_reliability_has_the_bins_of_the_analysis(tmp_path: Path) -> None:
    edges = np.arange(BIN_COUNT + 1) / BIN_COUNT
    confidences = np.concatenate([[0.0, 0.1, 0.2, 0.5, 1.0], edges[:-1] + 0.5 / BIN_COUNT])
    given_rows = [confident(f"test:{i}", float(c), True) for i, c in enumerate(confidences)]
    rows = rows_of(predicted(tmp_path, given_rows), "from reliability order by bin")
    counts = np.bincount(equal_width_bins(confidences), minlength=BIN_COUNT)
    assert [row["n"] for row in rows] == counts.tolist()
    assert [row["bin_low"] for row in rows] == pytest.approx(edges[:-1])
    assert [row["bin_high"] for row in rows] == pytest.approx(edges[1:])


def test_calibration_equals_values_worked_by_hand(tmp_path: Path) -> None:
    lake = predicted(tmp_path, [prediction(R, 0, "a", HALF, 0), prediction(R, 0, "b", SECOND, 0)])
    assert rows_of(lake, "from calibration") == [
        {
            "run_id": R,
            "level": 0,
            "ece": pytest.approx(0, abs=1e-12),
            # (1/4 + 1/16 + 1/16 + 9/16 + 1/4 + 1/16) / 2
            "brier": pytest.approx(0.625),
            "nll": pytest.approx(1.5 * LN2),
            "mean_confidence": pytest.approx(0.5),
            "auroc": 0.5,
            "n": 2,
        }
    ]


def test_a_certain_wrong_answer_has_a_finite_nll(tmp_path: Path) -> None:
    lake = predicted(tmp_path, [prediction(R, 0, "a", SURE, 1), prediction(R, 0, "b", SURE, 1)])
    (row,) = rows_of(lake, "from calibration")
    assert row["nll"] == pytest.approx(1e4)
    assert row["brier"] == pytest.approx(2)
    assert row["auroc"] is None
    assert row["ece"] == 1


levels_of_predictions = st.lists(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([-3.0, -2.5, -1.0, 0.0, 2.0]), min_size=3, max_size=3),
            st.integers(0, 2),
        ),
        min_size=6,
        max_size=6,
    ),
    min_size=2,
    max_size=3,
)


@settings(max_examples=repeats(6, 12), deadline=None)
@given(levels_of_predictions)
def test_marts_of_random_predictions_equal_scipy(
    levels: list[list[tuple[list[float], int]]],
) -> None:
    golds = [gold for _, gold in levels[0]]
    rows = [
        prediction(R, level, f"test:{i}", log_likelihoods, golds[i])
        for level, examples in enumerate(levels)
        for i, (log_likelihoods, _) in enumerate(examples)
    ]
    with tempfile.TemporaryDirectory() as folder:
        lake = predicted(Path(folder), rows)
        calibration = rows_of(lake, "from calibration order by level")
        flips = rows_of(lake, "from flips order by level")
        accuracy = rows_of(lake, "from accuracy order by level")
    unpruned = np.array([x for x, _ in levels[0]])
    onehot = np.eye(3)[golds]
    for level, examples in enumerate(levels):
        log_likelihoods = np.array([x for x, _ in examples])
        p = softmax(log_likelihoods, axis=1)
        is_correct = p.argmax(1) == golds
        confidence = np.array([r["confidence"] for r in rows if r["level"] == level])
        np.testing.assert_allclose(confidence, p.max(1))
        assert accuracy[level]["accuracy"] == pytest.approx(is_correct.mean())
        row = calibration[level]
        assert row["brier"] == pytest.approx(((p - onehot) ** 2).sum(1).mean())
        nll = -(log_softmax(log_likelihoods, axis=1) * onehot).sum(1).mean()
        assert row["nll"] == pytest.approx(nll)
        assert row["mean_confidence"] == pytest.approx(confidence.mean())
        assert row["ece"] == pytest.approx(ece(confidence, is_correct))
        if is_correct.all() or not is_correct.any():
            assert row["auroc"] is None
        else:
            right, wrong = confidence[is_correct], confidence[~is_correct]
            u = mannwhitneyu(right, wrong, method="asymptotic").statistic
            assert row["auroc"] == pytest.approx(u / (len(right) * len(wrong)))
        kl = entropy(softmax(unpruned, axis=1), p, axis=1).mean()
        assert flips[level]["mean_kl"] == pytest.approx(kl, abs=1e-12)
        flipped = unpruned.argmax(1) != log_likelihoods.argmax(1)
        assert flips[level]["flip_rate"] == pytest.approx(flipped.mean())


def ece(confidence: np.ndarray[Any, Any], is_correct: np.ndarray[Any, Any]) -> float:
    """ECE: the sum over bins of the bin's share times |accuracy - confidence|."""
    total = 0.0
    for low in range(10):
        inside = (confidence * 10 >= low) & ((confidence * 10 < low + 1) | (low == 9))
        if inside.any():
            gap = is_correct[inside].mean() - confidence[inside].mean()
            total += abs(gap) * inside.mean()
    return total
