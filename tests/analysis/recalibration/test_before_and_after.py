"""Recalibration: the rows of each fit, and the metrics in the lake before and after it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import ttest_rel

from prunelake.analysis import calibration, statistics
from prunelake.analysis.analyse import BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED
from prunelake.analysis.calibrators import fit, from_json
from prunelake.analysis.example_scores import OptionScores
from prunelake.analysis.recalibration.before_and_after import (
    CONFIDENCE_ONLY_NOTE,
    ORDER_KEPT_NOTE,
    recalibrate,
)
from prunelake.analysis.recalibration.cross_fitting import cross_fit
from prunelake.analysis.recalibration.recalibrated_rows import TESTED_ELSEWHERE_NOTE
from prunelake.schema.calibrators import CALIBRATOR_NAMES, UNPRUNED_TEMPERATURE
from tests.support.endurance import repeats
from tests.support.runs.lake_rows import prediction, rows_of, write, write_raw
from tests.support.runs.recalibrated_runs import (
    CONFIDENCE,
    RANKING,
    RUN,
    SCALED,
    R,
    drawn,
    few_predictions,
    predictions,
    rows,
    scores_and_options,
)

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of 200 examples: calibrated at level 0, overconfident at level 1."""
    folder = tmp_path_factory.mktemp("lake")
    write(folder, RUN, BOOTSTRAP_REPLICATES, predictions=predictions(*drawn()))
    return folder


def test_there_is_a_row_for_every_level_calibrator_and_metric(lake: Path) -> None:
    all_rows = rows(lake, "true")
    keys = {(r["level"], r["calibrator"], r["metric"]) for r in all_rows}
    assert keys == {
        (level, name, metric)
        for level in (0, 1)
        for name in CALIBRATOR_NAMES
        for metric in CONFIDENCE | RANKING | SCALED
    }
    assert len(all_rows) == len(keys)
    assert {(r["run_id"], r["model"], r["strategy"], r["task"]) for r in all_rows} == {
        (R, "m", "random:1", "t")
    }
    for row in all_rows:
        scales = row["calibrator"] in ("temperature", UNPRUNED_TEMPERATURE)
        if row["metric"] in SCALED | RANKING and not scales:
            assert row["value"] is None
            assert row["note"] == (
                CONFIDENCE_ONLY_NOTE if row["metric"] in SCALED else ORDER_KEPT_NOTE
            )
        else:
            assert row["value"] is not None


def test_before_is_the_metric_and_value_matches_the_cross_fitted_confidence(lake: Path) -> None:
    log_likelihoods, gold = drawn()
    scores, options = scores_and_options(log_likelihoods, gold)
    plain = {
        (r["level"], r["metric"]): r
        for r in rows_of(lake, "from metrics where method is null and variant is null")
    }
    fitted = cross_fit(scores, OptionScores(options.log_likelihoods, options.gold, tuple(
        f"test:{i:03}" for i in range(200))), BOOTSTRAP_SEED)  # fmt: skip
    for row in rows(lake, "value is not null"):
        level, name, metric = row["level"], row["calibrator"], row["metric"]
        fit_of_level = fitted[name][level]
        assert fit_of_level.confidence is not None
        correct = scores.correct[level]
        if metric == "top_label_brier":
            expected = ((fit_of_level.confidence - correct) ** 2).mean()
            assert row["before"] == pytest.approx(
                plain[level, "brier_calibration"]["value"]
                + plain[level, "brier_refinement"]["value"]
            )
        else:
            if metric in SCALED:
                assert fit_of_level.probabilities is not None
                right = fit_of_level.probabilities[np.arange(200), gold]
                brier = (fit_of_level.probabilities**2).sum(axis=1) - 2 * right + 1
                expected = (brier if metric == "brier" else -np.log(right)).mean()
            else:
                ones = np.ones((200, 1))
                expected = calibration.calibration_metrics(fit_of_level.confidence, correct, ones)[
                    metric
                ][0]
            own = plain[level, metric]
            assert row["before"] == pytest.approx(own["value"])
            assert (row["before_low"], row["before_high"]) == pytest.approx(
                (own["ci_low"], own["ci_high"])
            )
            assert row["unpruned_value"] == pytest.approx(plain[0, metric]["value"])
        assert row["value"] == pytest.approx(expected), (name, metric)
        sign = 1 if row["higher_is_better"] else -1
        assert row["gain"] == pytest.approx(sign * (row["value"] - row["before"]), abs=1e-9)
        assert row["delta"] == pytest.approx(row["value"] - row["unpruned_value"], abs=1e-9)
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert row["n"] == 200


def test_a_gain_has_the_p_value_of_the_paired_t_test(lake: Path) -> None:
    log_likelihoods, gold = drawn()
    scores, options = scores_and_options(log_likelihoods, gold)
    options = OptionScores(
        options.log_likelihoods, options.gold, tuple(f"test:{i:03}" for i in range(200))
    )
    after = cross_fit(scores, options, BOOTSTRAP_SEED)["temperature"][1].probabilities
    assert after is not None
    before = softmax(log_likelihoods[1], axis=1)
    plain, mended = (-np.log(p[np.arange(200), gold]) for p in (before, after))
    expected = ttest_rel(plain, mended)
    (row,) = rows(lake, "level = 1 and calibrator = 'temperature' and metric = 'nll'")
    low, high = expected.confidence_interval(0.95)
    assert row["gain"] > 0
    # The standard deviation of 2,000 replicates is accurate to 1.6 %.
    assert row["gain_high"] - row["gain_low"] == pytest.approx(high - low, rel=0.06)
    assert row["gain_p_value"] == pytest.approx(expected.pvalue, rel=0.5)
    unpruned = -np.log(softmax(log_likelihoods[0], axis=1)[np.arange(200), gold])
    beside = ttest_rel(mended, unpruned)
    assert row["p_value"] == pytest.approx(beside.pvalue, rel=0.2)


def test_recalibration_improves_only_the_overconfident_level(lake: Path) -> None:
    where = "metric in ('nll', 'smooth_ece') and calibrator = 'temperature'"
    for row in rows(lake, where):
        gained = row["gain_low"] > 0
        assert gained == (row["level"] == 1)
    # The unpruned model is calibrated: its temperature is near 1 and hardly changes the level.
    (moved,) = rows(lake, f"level = 1 and calibrator = '{UNPRUNED_TEMPERATURE}' and metric = 'nll'")
    (own,) = rows(lake, "level = 1 and calibrator = 'temperature' and metric = 'nll'")
    assert abs(moved["gain"]) < own["gain"] / 4
    assert moved["delta"] > 4 * own["delta"]


def test_metrics_has_recalibrated_variants_that_change_no_verdict(lake: Path) -> None:
    names = ("level", "metric", "variant")
    metrics, deltas = (
        {tuple(r[n] for n in names): r for r in rows_of(lake, f"from {view}") if r["variant"]}
        for view in ("metrics", "deltas")
    )
    known = rows(lake, "value is not null")
    assert metrics.keys() == {(r["level"], r["metric"], r["calibrator"]) for r in known}
    for row in known:
        key = row["level"], row["metric"], row["calibrator"]
        for name in ("value", "ci_low", "ci_high", "n", "higher_is_better"):
            assert metrics[key][name] == row[name]
        assert metrics[key]["note"] == TESTED_ELSEWHERE_NOTE
        for name in ("unpruned_value", "delta", "delta_low", "delta_high", "delta_se"):
            assert deltas[key][name] == row[name]
        assert (deltas[key]["is_tested"], deltas[key]["p_value"]) == (False, None)
    for view in ("verdicts", "correlations", "pareto", "pooled_correlations"):
        assert rows_of(lake, f"from {view} where variant is not null") == []
    grain = "run_id, level"
    assert rows_of(lake, f"select {grain} from summary group by all having count(*) > 1") == []
    for row in rows_of(lake, "from summary"):
        (metric,) = rows_of(
            lake,
            f"from metrics where level = {row['level']} and metric = 'ece' and variant is null",
        )
        assert row["ece"] == metric["value"]


def test_a_calibrator_is_fitted_to_all_rows_of_its_level(lake: Path) -> None:
    log_likelihoods, gold = drawn()
    scores, options = scores_and_options(log_likelihoods, gold)
    for row in rows_of(lake, "from calibrators"):
        name, level = row["calibrator"], row["level"]
        kind, source = ("temperature", 0) if name == UNPRUNED_TEMPERATURE else (name, level)
        expected = fit(kind, options.log_likelihoods[source], gold, scores.correct[source])
        own = from_json(kind, row["parameters"])
        assert own.confidence(log_likelihoods[1]) == pytest.approx(
            expected.confidence(log_likelihoods[1]), abs=1e-4
        )
        end = " at level 0" if name == UNPRUNED_TEMPERATURE else ""
        assert row["fit"] == f"5 folds of the run's own rows{end}"
        assert (row["fit_rows"], row["note"]) == (200, None)


def test_recalibrated_reliability_matches_the_recalibrated_confidence(lake: Path) -> None:
    bins_of_all = rows_of(lake, "from recalibrated_reliability order by all")
    assert {(r["level"], r["calibrator"]) for r in bins_of_all} == {
        (level, name) for level in (0, 1) for name in CALIBRATOR_NAMES
    }
    for row in bins_of_all:
        assert row["bin_low"] <= row["mean_confidence"] <= row["bin_high"]
        assert row["bin_high"] - row["bin_low"] == pytest.approx(0.1)
    for row in rows(lake, "metric = 'ece'"):
        bins = [
            b
            for b in bins_of_all
            if (b["level"], b["calibrator"]) == (row["level"], row["calibrator"])
        ]
        assert sum(b["n"] for b in bins) == 200
        gaps = [b["n"] * abs(b["mean_confidence"] - b["accuracy"]) for b in bins]
        assert sum(gaps) / 200 == pytest.approx(row["value"])


def test_examples_with_fewer_options_or_without_scores_are_allowed(
    tmp_path: Path,
) -> None:
    log_likelihoods, gold = drawn()
    given = predictions(log_likelihoods, gold)
    for i, level in ((3, 1), (4, 0)):  # not scored at one of the levels
        given[200 * level + i] = prediction(R, level, f"test:{i:03}", [np.nan, 0.0, 0.0], 0)
    for level in (0, 1):  # one of two options
        row = log_likelihoods[level][5][:2]
        given[200 * level + 5] = prediction(R, level, "test:005", row.tolist(), 0)
    write(tmp_path, RUN, predictions=given)
    (row,) = rows(tmp_path, "level = 1 and calibrator = 'temperature' and metric = 'nll'")
    (plain,) = rows_of(
        tmp_path, "from metrics where level = 1 and metric = 'nll' and variant is null"
    )
    assert row["n"] == 199
    assert row["before"] == pytest.approx(plain["value"])
    (delta,) = rows_of(
        tmp_path, "from deltas where level = 1 and metric = 'nll' and variant = 'temperature'"
    )
    assert delta["n"] == 198
    assert row["unpruned_value"] == delta["unpruned_value"]
    (fitted,) = rows_of(tmp_path, "from calibrators where level = 1 and calibrator = 'beta'")
    assert fitted["fit_rows"] == 199


def test_a_published_run_has_no_calibrators(tmp_path: Path) -> None:
    cell = {"run_id": R, "metric": "ece", "method": "", "operator": "", "variant": ""}
    reported = [{**cell, "level": k, "value": 0.1} for k in (0, 1)]
    write(tmp_path, RUN, reported=reported)
    for view in ("recalibration", "calibrators", "recalibrated_reliability"):
        assert rows_of(tmp_path, f"from {view}") == []


def test_the_view_is_empty_without_a_current_analysis(tmp_path: Path) -> None:
    write_raw(tmp_path, RUN, predictions=few_predictions(60))
    assert rows(tmp_path, "true") == []


def test_a_calibrated_model_rarely_seems_to_gain_by_recalibration() -> None:
    seeming_gains = fitted_to_itself = 0
    samples = repeats(10, 20)
    for seed in range(samples):
        log_likelihoods, gold = drawn(120, seed)
        log_likelihoods[1] = log_likelihoods[0]  # calibrated at both levels
        known, options = scores_and_options(log_likelihoods, gold)
        rows = recalibrate(known, options, replicates=100, seed=seed)["recalibrated"]
        (row,) = (
            r
            for r in rows
            if (r["level"], r["calibrator"], r["metric"]) == (1, "beta", "top_label_brier")
        )
        seeming_gains += row["gain"] > 0
        assert row["gain_low"] < 0
        whole = fit("beta", options.log_likelihoods[1], gold, known.correct[1])
        own = whole.confidence(log_likelihoods[1])
        fitted_to_itself += ((own - known.correct[1]) ** 2).mean() < row["before"]
    # Three parameters that are fitted to and judged by the same rows seem to help by chance.
    assert fitted_to_itself >= samples - 1
    assert seeming_gains <= samples // 2


def test_the_resamples_match_the_metrics(lake: Path) -> None:
    weights = statistics.bootstrap_weights(
        np.zeros(200, dtype=int), BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED
    )
    log_likelihoods, gold = drawn()
    nll = -np.log(softmax(log_likelihoods[1], axis=1)[np.arange(200), gold])
    value = statistics.bootstrap_estimate(float(nll.mean()), 200, (nll @ weights) / 200)
    (row,) = rows(lake, "level = 1 and calibrator = 'temperature' and metric = 'nll'")
    assert (row["before_low"], row["before_high"]) == pytest.approx(value.interval(0.95), rel=1e-4)
