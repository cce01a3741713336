"""The analysis of one run: its metrics equal those of the marts; errors name the bad input."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel

from prunelake.analysis import calibration
from prunelake.analysis.analyse import BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED, analyse
from prunelake.errors import LakeError
from prunelake.lake.read import read_table
from prunelake.schema.metrics import METRIC_DEFINITIONS
from tests.support.runs.drawn_runs import RUN, Key, R, by_key, drawn_explanations, drawn_predictions
from tests.support.runs.lake_rows import FEW_REPLICATES, prediction, rows_of, write


def mart_metrics(lake: Path) -> Iterator[tuple[Key, float | None, int | None]]:
    """Each metric in the marts: its key in `metrics`, its value and n."""
    marts = {
        "accuracy": {"accuracy": "accuracy", "accuracy_norm": "accuracy_norm"},
        "calibration": {x: x for x in ("ece", "brier", "nll", "mean_confidence", "auroc")},
        "flips": {
            "flip_rate": "flip_rate",
            "harmful_rate": "harmful_flip_rate",
            "beneficial_rate": "beneficial_flip_rate",
            "mean_kl": "kl_from_unpruned",
        },
    }
    for view, names in marts.items():
        for row in rows_of(lake, f"from {view}"):
            for column, metric in names.items():
                yield (metric, "", "", "", row["level"]), row[column], row["n"]
    for row in rows_of(lake, "from faithfulness"):
        cell = row["method"], row["operator"], row["variant"], row["level"]
        yield (row["kind"], *cell), row["value"], row["n"]
        if row["method"] != "random":
            yield (f"{row['kind']}_advantage", *cell), row["advantage"], row["n"]
    parts = (
        *("overlap_5", "overlap_10", "overlap_20", "spearman"),
        *("cross_overlap_10", "cross_spearman", "seed_overlap_10", "seed_spearman"),
    )
    columns = ", ".join(f"avg({x}) as {x}, count({x}) as n_{x}" for x in parts)
    query = f"select level, method, {columns} from example_agreement group by level, method"
    for row in rows_of(lake, query):
        for name in parts:
            metric = "attribution_spearman" if name == "spearman" else name
            yield (metric, row["method"], "", "", row["level"]), row[name], row[f"n_{name}"]


@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_equal_the_marts(tmp_path: Path, seed: int) -> None:
    predictions = drawn_predictions(seed)
    predictions[35] = prediction(R, 1, "test:5", [math.nan, 0.0, 0.0])
    write(tmp_path, RUN, predictions=predictions, **drawn_explanations(seed))
    metrics = by_key(tmp_path)
    seen = set()
    for key, value, n in mart_metrics(tmp_path):
        assert metrics[key]["value"] == pytest.approx(value, abs=1e-9), key
        assert metrics[key]["n"] == n, key
        seen.add(key)
    rest = metrics.keys() - seen
    assert {metric for metric, *_ in rest}.isdisjoint(metric for metric, *_ in seen)
    # The rows are too few to recalibrate, which would add top_label_brier.
    assert {metric for metric, *_ in metrics} == set(METRIC_DEFINITIONS) - {
        "top_label_brier",
        *("perplexity", "repetition", "generation_agreement"),
    }
    assert [metrics["aurc", "", "", "", level]["n"] for level in (0, 1, 2)] == [30, 29, 30]


def test_intervals_cover_their_value_and_stay_in_range(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(), **drawn_explanations())
    for row in by_key(tmp_path).values():
        metric = METRIC_DEFINITIONS[row["metric"]]
        assert row["higher_is_better"] is metric.higher_is_better
        if row["ci_low"] is not None:
            assert metric.low <= row["ci_low"] <= row["value"] <= row["ci_high"] <= metric.high
        if row["metric"].endswith("flip_rate") and row["level"] > 0:
            exact = binomtest(round(row["value"] * row["n"]), row["n"]).proportion_ci()
            assert (row["delta_low"], row["delta_high"]) == pytest.approx((*exact,))
        if row["level"] == 0:
            assert row["p_value"] is row["delta_low"] is row["equivalence_low"] is None
            assert row["delta"] in (0, None)
        elif row["p_value"] is not None:
            assert row["is_tested"]
            assert row["delta"] == pytest.approx(row["paired_value"] - row["unpruned_value"])
            assert 0 <= row["p_value"] <= 1
            if not row["metric"].startswith("accuracy"):  # whose intervals mix two methods
                assert row["delta_low"] < row["delta"] < row["delta_high"]
                assert row["equivalence_low"] < row["delta"] < row["equivalence_high"]
    assert {row["scope"] for row in by_key(tmp_path, "correlations").values()} == {"all", "stable"}


def test_a_mean_has_the_p_value_of_the_paired_t_test(tmp_path: Path) -> None:
    predictions = drawn_predictions(n=60)
    write(tmp_path, RUN, BOOTSTRAP_REPLICATES, predictions=predictions)
    nll = [
        -row["option_log_likelihoods"][row["gold"]]
        + math.log(sum(math.exp(x) for x in row["option_log_likelihoods"]))
        for row in predictions
    ]
    expected = ttest_rel(nll[60:120], nll[:60])
    row = by_key(tmp_path)["nll", "", "", "", 1]
    assert row["p_value"] == pytest.approx(expected.pvalue, rel=0.1)
    low, high = expected.confidence_interval(0.95)
    # The standard deviation of 2,000 replicates is accurate to 1.6 %.
    assert row["delta_high"] - row["delta_low"] == pytest.approx(high - low, rel=0.06)


def test_intervals_of_calibration_metrics_cover_the_value_without_its_bias(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    latent = generator.normal(size=(400, 3))
    gold = (latent + generator.gumbel(size=latent.shape)).argmax(axis=1)
    predictions = [
        prediction(R, level, f"test:{i}", (sharpness * row).tolist(), int(gold[i]))
        for level, sharpness in enumerate((1.0, 1.05, 3.0))
        for i, row in enumerate(latent)
    ]
    write(tmp_path, RUN, predictions=predictions)
    metrics = by_key(tmp_path)
    for name in ("ece", "smooth_ece", "brier_calibration"):
        row = metrics[name, "", "", "", 0]  # calibrated: the value is only noise
        assert row["ci_low"] == 0
        row = metrics[name, "", "", "", 2]
        # The unpruned value is too high, so that the change may be larger than estimated.
        assert row["delta_high"] - row["delta"] > 1.05 * 1.97 * row["delta_se"]
        row = metrics[name, "", "", "", 1]
        # Both values are about equally too high: each bias may hide a difference or feign one.
        assert row["delta_low"] < row["equivalence_low"] < -0.01
        assert row["delta_high"] > row["equivalence_high"] > 0.01
    row = metrics["nll", "", "", "", 2]
    assert row["delta_high"] - row["delta"] == pytest.approx(row["delta"] - row["delta_low"])


def test_repeating_an_analysis_gives_the_same_numbers(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(), **drawn_explanations())
    before = {name: read_table(tmp_path, name) for name in ("metrics", "correlations")}
    analyse(tmp_path, R)
    for name, frame in before.items():
        assert read_table(tmp_path, name).equals(frame)
    (about,) = read_table(tmp_path, "analyses").to_dicts()
    assert (about["replicates"], about["seed"]) == (FEW_REPLICATES, BOOTSTRAP_SEED)


def test_calibration_metrics_are_defined_in_the_schema() -> None:
    assert set(calibration.CALIBRATION_METRICS) <= set(METRIC_DEFINITIONS)


def test_the_error_names_a_run_that_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions())
    with pytest.raises(LakeError, match="nowhere"):
        analyse(tmp_path, "nowhere")
