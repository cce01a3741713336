"""The questions of docs/analyst.md: each answer by hand, or by numpy and scipy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import binomtest, spearmanr

from prunelake.analysis.analyse import analyse
from prunelake.lake.publish import publish
from prunelake.lake.sql import views
from tests.support.runs.analyst_guide_runs import (
    DROPS,
    LOST,
    POOLED,
    QUESTIONS,
    RIGHT,
    SURE,
    SURENESS,
    alike_run,
    answered_run,
    pooled_run,
    seeds_run,
    spread_run,
)
from tests.support.runs.example_runs import explained_run, judged_run, published_run
from tests.support.runs.lake_rows import identity_of


@dataclass(frozen=True)
class Sources:
    snapshot: duckdb.DuckDBPyConnection
    answers: dict[int, pl.DataFrame]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    lake = tmp_path_factory.mktemp("analyst") / "lake"
    explained_run(lake, "by cosine", DROPS)
    less = {cell: drop - 0.0625 for cell, drop in DROPS.items()}
    explained_run(lake, "at random", less, strategy="random:0")
    judged_run(lake, "judged", task="judged")
    answered_run(lake, "slipping", LOST, task="judged", strategy="random:0")
    spread_run(lake)
    seeds_run(lake)
    alike_run(lake)
    for name in POOLED:
        pooled_run(lake, name)
    published_run(lake, "published", strategy="cosine")
    with (
        views.connect(lake) as live,
        duckdb.connect(publish(lake, analyse), read_only=True) as snapshot,
    ):
        answers = {number: views.select(live, sql) for number, sql in QUESTIONS.items()}
        yield Sources(snapshot, answers)


def answer(sources: Sources, number: int, name: str | None = None) -> list[dict[str, Any]]:
    """The rows that answer a question, or those of one run."""
    rows = sources.answers[number]
    return (rows if name is None else rows.filter(run_id=identity_of(name)[1])).to_dicts()


def one(rows: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    (found,) = [row for row in rows if row | values == row]
    return found


def sure(sureness: float) -> float:
    return float(1 / (1 + np.exp(-sureness)))


@pytest.mark.parametrize("number", list(QUESTIONS))
def test_a_query_has_the_same_answer_from_files_and_snapshot(sources: Sources, number: int) -> None:
    found = sources.answers[number]
    assert not found.is_empty()
    assert_frame_equal(found, views.select(sources.snapshot, QUESTIONS[number]))


def test_hidden_degradation_is_where_accuracy_is_stable(sources: Sources) -> None:
    hidden = answer(sources, 1)
    of = {name: identity_of(name)[1] for name in ("judged", "slipping", "seeds")}
    assert {(r["run_id"], r["level"]) for r in hidden if r["metric"] == "ece"} == {
        (of["judged"], 1),
        (of["slipping"], 1),
        (of["slipping"], 2),
        (of["slipping"], 3),
    }
    row = one(hidden, run_id=of["judged"], metric="ece")
    # One confidence throughout: ECE is its distance from 7/8.
    delta = (sure(5.3) - 0.875) - abs(sure(1.95) - 0.875)
    assert row["delta"] == pytest.approx(delta)
    assert row["delta_low"] < delta < row["delta_high"]
    assert (row["accuracy_delta"], row["n"]) == (0, 400)
    assert -0.02 < row["accuracy_low"] < 0 < row["accuracy_high"] < 0.02
    assert row["p_adjusted"] <= 0.05


def test_accuracy_is_stable_up_to_a_level_where_ece_is_worse(sources: Sources) -> None:
    rows = answer(sources, 2)
    last = {identity_of(n)[1]: k for n, k in [("judged", 1), ("slipping", 3), ("by cosine", 0)]}
    found = {row["run_id"]: row for row in rows}
    assert {run_id: found[run_id]["last_level"] for run_id in last} == last
    assert "ece" in found[identity_of("judged")[1]]["worse_metrics"]
    assert found[identity_of("by cosine")[1]]["worse_metrics"] is None
    # Without examples it is unknown whether accuracy is stable.
    assert identity_of("published")[1] not in found


def test_levels_after_the_first_loss_do_not_count_as_stable(tmp_path: Path) -> None:
    answered_run(tmp_path, "run", [0, 0, 100, 0])
    assert views.query(tmp_path, QUESTIONS[2])["last_level"].to_list() == [1]


def test_an_inconclusive_verdict_has_the_smallest_detectable_change(sources: Sources) -> None:
    row = one(answer(sources, 3, "by cosine"), level=2, metric="accuracy")
    # One of the two explained examples is lost, none of the two others: a sum of two draws with
    # a standard deviation of 1/2 each, over 4, corrected for n = 4; times 1.96 + 0.84.
    standard_error = np.sqrt(2) / 2 / 4 * np.sqrt(4 / 3)
    assert row["smallest_detectable"] == pytest.approx(2.8016 * standard_error, rel=0.05)
    assert (row["delta"], row["n"]) == (-0.25, 4)
    assert "could have been missed" in row["reason"]
    assert not [r for r in answer(sources, 3, "judged") if r["metric"] in ("accuracy", "ece")]


def test_a_wider_margin_changes_a_verdict(sources: Sources) -> None:
    rows = [r for r in answer(sources, 4, "slipping") if r["metric"] in ("accuracy", "ece")]
    assert {(r["metric"], r["level"], r["verdict"], r["wider_verdict"]) for r in rows} == {
        ("accuracy", 4, "visible degradation", "equivalent"),
        ("ece", 4, "visible degradation", "hidden degradation"),
    }
    assert [r["accuracy_delta"] for r in rows] == pytest.approx([-8 / 400] * 2)
    assert all(-0.05 < r["accuracy_low"] < -0.02 for r in rows)


def test_methods_are_compared_side_by_side(sources: Sources) -> None:
    found = {
        (row["metric"], row["method"]): [row[f"level_{level}_delta"] for level in (1, 2)]
        for row in answer(sources, 5, "by cosine")
    }
    assert found["comprehensiveness", "lime"] == pytest.approx([-0.125, -0.25])
    assert found["comprehensiveness", "kernel_shap"] == pytest.approx([-0.125, -0.25])
    assert found["sufficiency", "lime"] == pytest.approx([0, 0])


def test_drift_is_measured_against_the_noise_between_seeds(sources: Sources) -> None:
    rows = answer(sources, 6, "seeds")
    # Half of the examples are reversed: of 0.5 and -0.5.
    drift = one(rows, metric="cross_spearman")
    assert (drift["own_noise"], drift["value"]) == pytest.approx((0.5, 0))
    assert drift["delta"] == pytest.approx(-0.5)
    assert drift["delta_low"] < -0.5 < drift["delta_high"] < -0.4
    assert drift["verdict"] == "hidden degradation"
    noise = one(rows, metric="seed_spearman")
    assert (noise["own_noise"], noise["delta"]) == pytest.approx((0.5, 0))


def test_explanations_are_compared_with_chance_and_with_the_best_ranking(sources: Sources) -> None:
    row = one(answer(sources, 7, "seeds"), level=1)
    assert (row["advantage"], row["between_bounds"]) == pytest.approx((0.1875, 0.3125 / 0.5))
    half = 1.972 * 0.0625 * np.sqrt(200 / 199) / np.sqrt(200)
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * half, rel=0.1)
    assert row["is_better_than_random"] is True
    beaten = {
        (row["level"], row["method"]): (row["advantage"], row["between_bounds"])
        for row in answer(sources, 7, "by cosine")
        if row["metric"] == "comprehensiveness_advantage"
    }
    assert beaten[0, "kernel_shap"] == (pytest.approx(0.25), None)
    assert beaten[2, "lime"] == (pytest.approx(0.125), None)


def test_the_deletion_curve(sources: Sources) -> None:
    curve = [
        (row["level"], row["fraction"], row["mean_drop"], row["n"])
        for row in answer(sources, 8, "by cosine")
        if (row["method"], row["kind"]) == ("kernel_shap", "comprehensiveness")
    ]
    assert curve == [
        (level, fraction, pytest.approx(0.5 - 0.125 * level), 2)
        for level in (0, 1, 2)
        for fraction in (0.1, 0.2)
    ]


def test_levels_with_similar_explanations(sources: Sources) -> None:
    shown = ("level", "closest_level", "overlap_with_closest", "overlap_with_unpruned")
    assert [tuple(row[c] for c in shown) for row in answer(sources, 9, "alike")] == [
        (0, 1, pytest.approx(0.9), None),
        (1, 0, pytest.approx(0.9), pytest.approx(0.9)),
        (2, 1, pytest.approx(0.1), 0),
    ]


def test_correlations_over_stable_levels_only(sources: Sources) -> None:
    row = one(answer(sources, 10, "slipping"), metric="mean_confidence")
    accuracy = [350 - lost for lost in LOST]
    assert row["spearman_all"] == pytest.approx(spearmanr(accuracy, SURENESS).statistic)
    assert (row["spearman_stable"], row["stable_level_count"]) == (pytest.approx(-1), 4)
    # Eight answers of 400 prove nothing: noise alone often orders four levels like this.
    assert (row["spearman_stable_low"], row["is_clear"]) == (-1, row["spearman_stable_high"] < 0)
    published = one(answer(sources, 10, "published"), metric="ece")
    assert published["spearman_stable"] is None
    assert "without examples" in published["note"]


def test_pooling_misleads_where_runs_differ(sources: Sources) -> None:
    row = one(answer(sources, 11), metric="ece", strategy="")
    within = np.hstack(
        [np.array(xy) - np.mean(xy, axis=1, keepdims=True) for xy in POOLED.values()]
    )
    assert row["repeated_measures"] == pytest.approx(np.corrcoef(within)[0, 1])
    assert row["pooled_pearson"] == pytest.approx(
        np.corrcoef(np.hstack(list(POOLED.values())))[0, 1]
    )
    assert row["repeated_measures"] < 0 < row["pooled_pearson"]


def test_overconfidence_with_its_interval(sources: Sources) -> None:
    (row,) = answer(sources, 12, "spread")
    gaps = np.array(SURE) - np.array(RIGHT)
    half = 1.96 * gaps.std(ddof=1) / np.sqrt(len(gaps))
    found = [row[name] for name in ("gap_low", "confidence_gap", "gap_high")]
    assert found == pytest.approx([gaps.mean() - half, gaps.mean(), gaps.mean() + half])
    assert row["n"] == len(SURE)


def test_flips_for_worse_and_for_better(sources: Sources) -> None:
    row = one(answer(sources, 13, "slipping"), level=4)
    assert (row["flip_rate"], row["harmful_rate"], row["beneficial_rate"]) == (0.02, 0.02, 0)
    assert row["p_value"] == pytest.approx(binomtest(0, 8).pvalue)
    assert row["accuracy_delta_low"] < row["accuracy_delta"] == pytest.approx(-0.02)


def test_the_example_that_flips_harmfully_and_its_tokens(sources: Sources) -> None:
    (flipped,) = answer(sources, 14, "by cosine")
    assert flipped["example_id"] == "test:1"
    assert (flipped["first_level"], flipped["harmful_levels"]) == (2, 1)
    assert flipped["right_option"] == "no"
    rows = answer(sources, 15, "by cosine")
    assert [(row["example_id"], row["level"], row["method"]) for row in rows] == [
        ("test:1", 2, "kernel_shap"),
        ("test:1", 2, "lime"),
    ]
    # Scores 0.5, -0.25 x level, 0.1.
    assert rows[0]["unpruned_tokens"] == ["Is", "?", " it"]
    assert rows[0]["tokens"] == ["Is", "?", " it"]
    assert (rows[0]["unpruned_prediction"], rows[0]["prediction"]) == (0, 1)


def test_explanations_change_while_the_answer_stays(sources: Sources) -> None:
    rows = answer(sources, 16)
    assert len(rows) == 50
    # Reversed examples come first; in the run of seeds these have odd numbers.
    assert [row["spearman"] for row in rows] == pytest.approx([-1] * 50)
    reversed_ones = answer(sources, 16, "seeds")
    assert reversed_ones
    assert all(int(row["example_id"].split(":")[1]) % 2 for row in reversed_ones)


def test_strategies_are_compared_example_by_example(sources: Sources) -> None:
    rows = answer(sources, 17)
    assert {(r["strategy"], r["other_strategy"]) for r in rows} == {("cosine", "random:0")}
    lime = one(rows, metric="comprehensiveness", method="lime", level=1)
    assert (lime["mean_difference"], lime["n"]) == (pytest.approx(-0.0625), 2)
    # Level 2: one loses every second example, the other every eighth and two more (1 and 3).
    judged = np.array([i % 2 != 0 for i in range(400)], dtype=float)
    slipping = np.array([i % 8 != 0 and i not in (1, 3) for i in range(400)], dtype=float)
    difference = slipping - judged
    row = one(rows, task="judged", metric="accuracy", level=2)
    half = 1.96 * difference.std(ddof=1) / 20
    found = [row[name] for name in ("difference_low", "mean_difference", "difference_high")]
    assert found == pytest.approx(difference.mean() + np.array([-half, 0, half]))
    assert row["n"] == 400


def test_excluded_examples_have_a_reason(sources: Sources) -> None:
    (row,) = answer(sources, 18)
    assert (row["task"], row["level"], row["examples"]) == ("spread", 0, 1)
    assert row["share"] == pytest.approx(1 / 7)
    assert row["reason"] == "a log-likelihood is NaN"


def test_published_values_have_changes_and_a_note(sources: Sources) -> None:
    rows = answer(sources, 19, "published")
    # The other three levels belong to the cosine run.
    deltas: Mapping[tuple[str, str | None], list[float]] = {
        ("accuracy", None): [-0.375, -0.5],
        ("comprehensiveness", "lime"): [-0.25, -0.375],
        ("ece", None): [0.25, 0.375],
    }
    assert [(r["metric"], r["method"], r["level"], r["delta"]) for r in rows] == [
        (*cell, level, by_level[level - 3]) for cell, by_level in deltas.items() for level in (3, 4)
    ]
    assert all("without examples" in row["note"] for row in rows)
    assert len(answer(sources, 19, "a")) == 6


def test_new_metrics_equal_numpy(sources: Sources) -> None:
    (found,) = answer(sources, 20, "spread")
    confidence, is_right = np.array(SURE), np.array(RIGHT)
    bins = np.minimum(np.floor(confidence * 15), 14)
    ece = sum(
        abs(is_right[bins == b].sum() - confidence[bins == b].sum()) for b in np.unique(bins)
    ) / len(SURE)
    assert found["ece_15"] == pytest.approx(ece)
    assert found["confidence_when_wrong"] == pytest.approx(confidence[~is_right].mean())
    assert found["accuracy_of_surer_half"] == pytest.approx(is_right[:3].mean())
