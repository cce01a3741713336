"""Views over predictions: expected rows by hand; on random rows the oracle is scipy."""

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
    RUN_NAMES,
    example,
    layer,
    prediction,
    rows_of,
    run_row,
    write_raw,
)

LN2 = math.log(2)
RUN = run_row("run")
R = str(RUN["run_id"])

# Log-likelihoods of three options with simple probabilities.
HALF = [0.0, -LN2, -LN2]  # 1/2, 1/4, 1/4
DEEP = [-1e3, -1e3 - LN2, -1e3 - LN2]  # the same probabilities, but every exponential is 0
SURE = [0.0, -1e4, -1e4]  # 1, 0, 0
SECOND = [-LN2, 0.0, -LN2]  # 1/4, 1/2, 1/4
NAN = [math.nan, 0.0, 0.0]


def lake_of(folder: Path, predictions: list[dict[str, Any]]) -> Path:
    write_raw(folder, RUN, predictions=predictions)
    return folder


def test_predictions_have_the_names_of_the_run_and_probabilities(tmp_path: Path) -> None:
    rows = [prediction(R, 0, *given) for given in (("a", HALF), ("b", SURE), ("c", DEEP))]
    lake = lake_of(tmp_path, rows)
    rows = rows_of(lake, "from predictions order by example_id")
    assert {(r["model"], r["strategy"], r["task"]) for r in rows} == {("tiny", "cosine", "demo")}
    assert rows[0]["probabilities"] == pytest.approx([0.5, 0.25, 0.25])
    assert rows[1]["probabilities"] == [1, 0, 0]
    assert rows[1]["log_probabilities"] == [0, -1e4, -1e4]
    assert rows[2]["probabilities"] == pytest.approx([0.5, 0.25, 0.25])


def test_layers_and_examples_show_the_written_rows(tmp_path: Path) -> None:
    write_raw(
        tmp_path,
        RUN,
        layers=[layer(R, 0, 0.5, 1), layer(R, 1, 0.25, 0)],
        examples=[example(R, "a", gold=1)],
    )
    assert rows_of(tmp_path, "from layers order by rank") == [
        layer(R, 1, 0.25, 0) | RUN_NAMES,
        layer(R, 0, 0.5, 1) | RUN_NAMES,
    ]
    assert rows_of(tmp_path, "from examples") == [example(R, "a", gold=1) | RUN_NAMES]


@pytest.mark.parametrize(
    ("log_likelihoods", "reason"),
    [
        (NAN, "a log-likelihood is NaN"),
        ([math.nan] * 3, "a log-likelihood is NaN"),
        ([-math.inf, 0.0, 0.0], "a log-likelihood is infinite or missing"),
        ([], "a log-likelihood is infinite or missing"),
        ([None, 0.0], "a log-likelihood is infinite or missing"),
    ],
)
def test_an_unscorable_prediction_is_excluded_with_its_reason(
    tmp_path: Path, log_likelihoods: list[float], reason: str
) -> None:
    bad = prediction(R, 0, "bad", HALF) | {"option_log_likelihoods": log_likelihoods}
    lake = lake_of(tmp_path, [bad, prediction(R, 0, "good", HALF)])
    assert rows_of(lake, "from excluded") == [
        {"run_id": R, "level": 0, "example_id": "bad", "reason": reason} | RUN_NAMES
    ]
    for mart in ("accuracy", "calibration", "flips", "reliability"):
        assert rows_of(lake, f"select n from {mart}") == [{"n": 1}]
    paired = rows_of(lake, "select example_id from paired_predictions")
    assert paired == [{"example_id": "good"}]


def test_a_level_without_scorable_predictions_has_null_values(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, [prediction(R, 0, "a", HALF), prediction(R, 1, "a", NAN)])
    for mart in ("accuracy", "calibration", "flips"):
        (row,) = rows_of(lake, f"select * exclude (run_id) from {mart} where level = 1")
        assert (row.pop("level"), row.pop("n")) == (1, 0)
        assert set(row.values()) == {None}


def test_paired_predictions_equal_values_worked_by_hand(tmp_path: Path) -> None:
    lake = lake_of(
        tmp_path,
        [
            *(prediction(R, 0, e, HALF, gold) for e, gold in [("a", 0), ("b", 1), ("c", 2)]),
            prediction(R, 0, "d", HALF),
            *(prediction(R, 1, e, SECOND, gold) for e, gold in [("a", 0), ("b", 1), ("c", 2)]),
            prediction(R, 1, "d", HALF),
        ],
    )
    rows = rows_of(lake, "from paired_predictions where level = 1 order by example_id")
    # KL((1/2, 1/4, 1/4) || (1/4, 1/2, 1/4)) = 1/2 ln 2 - 1/4 ln 2
    assert [r.pop("kl_from_unpruned") for r in rows] == pytest.approx([LN2 / 4] * 3 + [0])
    half = pytest.approx(0.5)
    assert rows == [
        {
            **RUN_NAMES,
            "run_id": R,
            "level": 1,
            "example_id": example_id,
            "gold": gold,
            "prediction": chosen,
            "unpruned_prediction": 0,
            "is_correct": chosen == gold,
            "unpruned_is_correct": gold == 0,
            "confidence": half,
            "unpruned_confidence": half,
            "is_flip": kind is not None,
            "flip_kind": kind,
        }
        for example_id, gold, chosen, kind in [
            ("a", 0, 1, "harmful"),
            ("b", 1, 1, "beneficial"),
            ("c", 2, 1, "neutral"),
            ("d", 0, 0, None),
        ]
    ]
    flips = rows_of(lake, "from flips order by level")
    names = ("flip_rate", "harmful_rate", "beneficial_rate", "neutral_rate", "mean_kl", "n")
    zero, quarter = dict.fromkeys(names, 0) | {"n": 4}, dict.fromkeys(names, 0.25)
    assert flips == [
        {"run_id": R, "level": 0} | zero,
        {"run_id": R, "level": 1}
        | quarter
        | {"flip_rate": 0.75, "mean_kl": pytest.approx(3 / 16 * LN2), "n": 4},
    ]


def test_a_prediction_without_options_has_flips_and_the_confidence_that_is_stated(
    tmp_path: Path,
) -> None:
    alone = {"option_log_likelihoods": None, "option_bytes": None, "prediction_norm": None}
    stated = {"confidence": 0.625, "is_correct_norm": None, **alone}
    lake = lake_of(
        tmp_path,
        [
            *(prediction(R, 0, e, HALF) for e in ("a", "b", "c")),
            prediction(R, 1, "a", SECOND) | stated,
            prediction(R, 1, "b", HALF) | stated | {"confidence": None},
            prediction(R, 1, "c", HALF) | stated | {"prediction": None, "is_correct": None},
        ],
    )
    rows = rows_of(lake, "from paired_predictions where level = 1 order by example_id")
    names = ("example_id", "flip_kind", "confidence", "kl_from_unpruned")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("a", "harmful", 0.625, None),
        ("b", None, None, None),
    ]
    (row,) = rows_of(lake, "select accuracy, accuracy_norm, n from accuracy where level = 1")
    assert row == {"accuracy": 0.5, "accuracy_norm": None, "n": 2}
    (row,) = rows_of(lake, "select ece, brier, nll, n from calibration where level = 1")
    assert row == {"ece": 0.625, "brier": None, "nll": None, "n": 1}
    assert rows_of(lake, "select level, example_id, reason from excluded") == [
        {"level": 1, "example_id": "c", "reason": "no prediction"}
    ]


def test_pairs_stay_within_their_run(tmp_path: Path) -> None:
    other = run_row("other")
    lake = lake_of(tmp_path, [prediction(R, 0, "a", HALF), prediction(R, 1, "a", HALF)])
    o = str(other["run_id"])
    write_raw(lake, other, predictions=[prediction(o, 0, "a", SECOND), prediction(o, 1, "a", HALF)])
    rows = rows_of(lake, "select run_id, is_flip from paired_predictions where level = 1")
    assert {r["run_id"]: r["is_flip"] for r in rows} == {R: False, o: True}


def test_accuracy_counts_both_kinds_of_prediction(tmp_path: Path) -> None:
    rows = [prediction(R, 0, e, HALF, gold) for e, gold in [("a", 0), ("b", 1), ("c", 2)]]
    rows[1] |= {"prediction_norm": 1, "is_correct_norm": True}
    lake = lake_of(tmp_path, rows)
    assert rows_of(lake, "from accuracy") == [
        {
            "run_id": R,
            "level": 0,
            "accuracy": pytest.approx(1 / 3),
            "accuracy_norm": pytest.approx(2 / 3),
            "n": 3,
        }
    ]


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
    lake = lake_of(
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
    rows = rows_of(lake_of(tmp_path, given_rows), "from reliability order by bin")
    counts = np.bincount(equal_width_bins(confidences), minlength=BIN_COUNT)
    assert [row["n"] for row in rows] == counts.tolist()
    assert [row["bin_low"] for row in rows] == pytest.approx(edges[:-1])
    assert [row["bin_high"] for row in rows] == pytest.approx(edges[1:])


def test_calibration_equals_values_worked_by_hand(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, [prediction(R, 0, "a", HALF, 0), prediction(R, 0, "b", SECOND, 0)])
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
    lake = lake_of(tmp_path, [prediction(R, 0, "a", SURE, 1), prediction(R, 0, "b", SURE, 1)])
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
        lake = lake_of(Path(folder), rows)
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
