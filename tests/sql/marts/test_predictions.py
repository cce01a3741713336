"""predictions, paired_predictions, accuracy and flips: given rows and expected rows."""

import math
from pathlib import Path

import pytest

from tests.support.runs.lake_rows import (
    RUN_NAMES,
    example,
    layer,
    prediction,
    rows_of,
    run_row,
    write_raw,
)
from tests.support.runs.one_run import HALF, LN2, RUN, SECOND, SURE, R, predicted

DEEP = [-1e3, -1e3 - LN2, -1e3 - LN2]  # the probabilities of HALF, but every exponential is 0
NAN = [math.nan, 0.0, 0.0]


def test_predictions_have_the_names_of_the_run_and_probabilities(tmp_path: Path) -> None:
    rows = [prediction(R, 0, *given) for given in (("a", HALF), ("b", SURE), ("c", DEEP))]
    lake = predicted(tmp_path, rows)
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
    lake = predicted(tmp_path, [bad, prediction(R, 0, "good", HALF)])
    assert rows_of(lake, "from excluded") == [
        {"run_id": R, "level": 0, "example_id": "bad", "reason": reason} | RUN_NAMES
    ]
    for mart in ("accuracy", "calibration", "flips", "reliability"):
        assert rows_of(lake, f"select n from {mart}") == [{"n": 1}]
    paired = rows_of(lake, "select example_id from paired_predictions")
    assert paired == [{"example_id": "good"}]


def test_a_level_without_scorable_predictions_has_null_values(tmp_path: Path) -> None:
    lake = predicted(tmp_path, [prediction(R, 0, "a", HALF), prediction(R, 1, "a", NAN)])
    for mart in ("accuracy", "calibration", "flips"):
        (row,) = rows_of(lake, f"select * exclude (run_id) from {mart} where level = 1")
        assert (row.pop("level"), row.pop("n")) == (1, 0)
        assert set(row.values()) == {None}


def test_paired_predictions_equal_values_worked_by_hand(tmp_path: Path) -> None:
    lake = predicted(
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
    lake = predicted(
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
    lake = predicted(tmp_path, [prediction(R, 0, "a", HALF), prediction(R, 1, "a", HALF)])
    o = str(other["run_id"])
    write_raw(lake, other, predictions=[prediction(o, 0, "a", SECOND), prediction(o, 1, "a", HALF)])
    rows = rows_of(lake, "select run_id, is_flip from paired_predictions where level = 1")
    assert {r["run_id"]: r["is_flip"] for r in rows} == {R: False, o: True}


def test_accuracy_counts_both_kinds_of_prediction(tmp_path: Path) -> None:
    rows = [prediction(R, 0, e, HALF, gold) for e, gold in [("a", 0), ("b", 1), ("c", 2)]]
    rows[1] |= {"prediction_norm": 1, "is_correct_norm": True}
    lake = predicted(tmp_path, rows)
    assert rows_of(lake, "from accuracy") == [
        {
            "run_id": R,
            "level": 0,
            "accuracy": pytest.approx(1 / 3),
            "accuracy_norm": pytest.approx(2 / 3),
            "n": 3,
        }
    ]
