"""The analysis of one run: its metrics equal those of the marts; errors name the bad input."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from prunelake.analysis import calibration
from prunelake.analysis.analyse import (
    BOOTSTRAP_REPLICATES,
    BOOTSTRAP_SEED,
    NO_EXAMPLES_NOTE,
    analyse,
)
from prunelake.errors import LakeError
from prunelake.lake.read import read_table
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.schema.table import METRIC_KEY
from tests.support.lake_rows import (
    attribution,
    deletion,
    example,
    prediction,
    rows_of,
    run_row,
    write,
)

RUN = run_row("run", levels=[0, 1, 2])
R = str(RUN["run_id"])
Key = tuple[Any, ...]
Rows = list[dict[str, Any]]

TOKENS = 12
METRICS_WITHOUT_MART = {
    "ece_debiased",
    "smooth_ece",
    "aurc",
    "brier_calibration",
    "brier_refinement",
}


def drawn_predictions(
    seed: int = 0, n: int = 30, levels: tuple[int, ...] = (0, 1, 2), shift: float = 0.3
) -> Rows:
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(n, 3))
    gold = generator.integers(3, size=n)
    return [
        prediction(R, level, f"test:{i}", row.tolist(), int(gold[i]))
        for level in levels
        for i, row in enumerate(base + shift * level * generator.normal(size=(n, 3)))
    ]


def drawn_explanations(seed: int = 0, n: int = 8) -> dict[str, Rows]:
    generator = np.random.default_rng(seed)
    keys = [
        (level, f"test:{i}", method, draw)
        for level in (0, 1, 2)
        for i in range(n)
        for method in ("lime", "kernel_shap", "random")
        for draw in (0, 1)
    ]
    return {
        "examples": [
            example(R, f"test:{i}", position=i, prompt_tokens=["t"] * TOKENS) for i in range(n)
        ],
        "attributions": [
            attribution(R, level, name, scores.round(1).tolist(), method, draw)
            for (level, name, method, draw), scores in zip(
                keys, generator.normal(size=(len(keys), TOKENS)), strict=True
            )
        ],
        "deletions": [
            deletion(
                R,
                level,
                name,
                fraction,
                float(generator.normal()) / 5,
                **{"method": method, "seed": draw, "operator": operator, "kind": kind},
            )
            for level, name, method, draw in keys
            for operator in ("delete_text", "replace")
            for kind in ("comprehensiveness", "sufficiency")
            for fraction in (0.1, 0.3)
        ],
    }


def by_key(lake: Path, table: str = "metrics") -> dict[Key, dict[str, Any]]:
    rows = read_table(lake, table).to_dicts()
    last = "level" if table == "metrics" else "scope"
    keyed = {(*(row[name] for name in METRIC_KEY), row[last]): row for row in rows}
    assert len(keyed) == len(rows)
    return keyed


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
def test_metrics_equal_those_of_the_marts(tmp_path: Path, seed: int) -> None:
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
    assert {metric for metric, *_ in rest} == METRICS_WITHOUT_MART
    # The rows are too few to recalibrate, which would add top_label_brier.
    assert {metric for metric, *_ in metrics} == set(METRIC_DEFINITIONS) - {"top_label_brier"}
    assert [metrics["aurc", "", "", "", level]["n"] for level in (0, 1, 2)] == [30, 29, 30]


def test_intervals_cover_their_value_and_stay_in_range(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(), **drawn_explanations())
    for row in by_key(tmp_path).values():
        metric = METRIC_DEFINITIONS[row["metric"]]
        assert row["higher_is_better"] is metric.higher_is_better
        if row["ci_low"] is not None:
            assert metric.low <= row["ci_low"] <= row["value"] <= row["ci_high"] <= metric.high
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


def test_a_mean_is_compared_as_by_the_paired_t_test(tmp_path: Path) -> None:
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
        row = metrics[name, "", "", "", 0]  # calibrated: the value is nothing but noise
        assert row["ci_low"] == 0
        row = metrics[name, "", "", "", 2]
        # The unpruned value is too high, so that the change may be larger than estimated.
        assert row["delta_high"] - row["delta"] > 1.05 * (row["delta"] - row["delta_low"])
        row = metrics[name, "", "", "", 1]
        # Both values are about equally too high: their biases may hide a small difference.
        half = row["delta_high"] - row["delta_low"]
        assert row["equivalence_high"] - row["equivalence_low"] > half
    row = metrics["nll", "", "", "", 2]
    assert row["delta_high"] - row["delta"] == pytest.approx(row["delta"] - row["delta_low"])


def test_repeating_an_analysis_gives_the_same_numbers(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        BOOTSTRAP_REPLICATES,
        predictions=drawn_predictions(),
        **drawn_explanations(),
    )
    before = {name: read_table(tmp_path, name) for name in ("metrics", "correlations")}
    analyse(tmp_path, R)
    for name, frame in before.items():
        assert read_table(tmp_path, name).equals(frame)
    (about,) = read_table(tmp_path, "analyses").to_dicts()
    assert (about["replicates"], about["seed"]) == (BOOTSTRAP_REPLICATES, BOOTSTRAP_SEED)


def test_pairs_lack_examples_that_cannot_be_scored_at_either_level(tmp_path: Path) -> None:
    predictions = drawn_predictions()
    for i in range(4):
        predictions[30 + i] = prediction(R, 1, f"test:{i}", [math.nan, 0.0, 0.0])
    predictions[29] = prediction(R, 0, "test:29", [-math.inf, 0.0, 0.0])
    write(tmp_path, RUN, predictions=predictions)
    metrics = by_key(tmp_path)
    for name in ("accuracy", "nll", "ece", "aurc", "brier_calibration"):
        row = metrics[name, "", "", "", 1]
        assert (row["n"], row["paired_n"]) == (26, 25), name
        row = metrics[name, "", "", "", 2]
        assert (row["n"], row["paired_n"]) == (30, 29), name
    right = {(p["level"], p["example_id"]): p["is_correct"] for p in predictions}
    both = [f"test:{i}" for i in range(4, 29)]
    row = metrics["accuracy", "", "", "", 1]
    assert row["unpruned_value"] == pytest.approx(np.mean([right[0, name] for name in both]))
    assert row["paired_value"] == pytest.approx(np.mean([right[1, name] for name in both]))


def unscorable(level: int, n: int = 30) -> Rows:
    return [prediction(R, level, f"test:{i}", [math.nan, 0.0, 0.0]) for i in range(n)]


@pytest.mark.parametrize("gap", ["unscorable", "absent"])
@pytest.mark.parametrize("level", [0, 1])
def test_a_level_without_scores_is_null_with_a_note(tmp_path: Path, gap: str, level: int) -> None:
    rows = [p for p in drawn_predictions() if p["level"] != level]
    write(
        tmp_path,
        RUN,
        predictions=rows + (unscorable(level) if gap == "unscorable" else []),
    )
    metrics = by_key(tmp_path)
    names = {metric for metric, *_ in metrics}
    assert {"accuracy", "ece", "auroc", "brier_calibration", "flip_rate"} <= names
    for name in names:
        row = metrics[name, "", "", "", level]
        assert (row["value"], row["n"], row["ci_low"]) == (None, 0, None)
        assert row["note"] == "no example could be scored"
        for paired_level in {1, 2} - {level} if level == 0 else {level}:
            row = metrics[name, "", "", "", paired_level]
            assert row["paired_n"] == 0
            for column in ("paired_value", "unpruned_value", "delta", "delta_low", "p_value"):
                assert row[column] is None, column
            assert row["equivalence_low"] is None
            assert row["note"] is not None
    (row,) = rows_of(tmp_path, "from verdicts where metric = 'accuracy' and level = 1")
    assert (row["verdict"], row["is_accuracy_stable"]) == ("inconclusive", False)


def test_a_run_without_scorable_predictions_has_no_numbers(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=[p for level in (0, 1, 2) for p in unscorable(level)])
    metrics = by_key(tmp_path)
    assert {row["value"] for row in metrics.values()} == {None}
    assert {row["note"] for row in metrics.values()} == {"no example could be scored"}
    correlations = by_key(tmp_path, "correlations").values()
    assert {row["note"] for row in correlations} == {"fewer than 3 levels"}
    assert {row["pearson"] for row in correlations} == {None}


def test_a_run_without_predictions_still_has_metrics_of_explanations(tmp_path: Path) -> None:
    write(tmp_path, RUN, **drawn_explanations())
    metrics = by_key(tmp_path)
    assert metrics["accuracy", "", "", "", 0]["value"] is None
    row = metrics["comprehensiveness", "lime", "replace", "eraser", 1]
    assert row["n"] == 8
    assert row["p_value"] is not None


def test_a_single_example_has_values_but_no_standard_error(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(n=1))
    metrics = by_key(tmp_path)
    row = metrics["nll", "", "", "", 1]
    assert row["value"] is not None
    assert row["delta"] is not None
    assert row["ci_low"] is row["delta_se"] is row["p_value"] is None
    assert row["note"] == "a single example"
    assert metrics["auroc", "", "", "", 1]["value"] is None


@pytest.mark.parametrize("right", [True, False])
def test_auroc_is_null_if_all_are_right_or_all_wrong(tmp_path: Path, right: bool) -> None:
    rows = drawn_predictions()
    for row in rows:
        row["gold"] = row["prediction"] if right else (row["prediction"] + 1) % 3
        row["is_correct"] = row["is_correct_norm"] = right
    write(tmp_path, RUN, predictions=rows)
    metrics = by_key(tmp_path)
    for level in (0, 1, 2):
        row = metrics["auroc", "", "", "", level]
        assert (row["value"], row["note"]) == (None, "all predictions are right, or none")
        row = metrics["accuracy", "", "", "", level]
        assert row["value"] == float(right)
        assert row["note"] == "no variation among the examples"
    row = metrics["accuracy", "", "", "", 1]
    assert (row["delta"], row["p_value"]) == (0, 1)
    # None of 30 examples changed: changes of a few percent remain possible.
    assert row["equivalence_high"] == pytest.approx(1.645**2 / (30 + 1.645**2), rel=1e-3)


def test_a_metric_without_variation_has_no_interval(tmp_path: Path) -> None:
    rows = [
        deletion(R, level, f"test:{i}", 0.5, 0.1, kind=kind)
        for level in (0, 1, 2)
        for i in range(6)
        for kind in ("comprehensiveness", "sufficiency")
    ]
    write(tmp_path, RUN, predictions=drawn_predictions(), deletions=rows)
    for level in (0, 1):
        row = by_key(tmp_path)["sufficiency", "lime", "replace", "eraser", level]
        assert row["value"] == pytest.approx(0.1)
        assert row["ci_low"] is row["p_value"] is None
        assert row["note"] == "no variation among the examples"
    correlated = by_key(tmp_path, "correlations")
    row = correlated["sufficiency", "lime", "replace", "eraser", "all"]
    assert (row["note"], row["pearson"]) == ("constant metric", None)


def test_a_metric_that_does_not_change_is_not_tested(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions(shift=0.0))
    for row in by_key(tmp_path).values():
        if row["level"] == 1 and row["metric"] not in ("accuracy", "accuracy_norm"):
            assert row["delta"] in (None, pytest.approx(0, abs=1e-12))
            assert row["p_value"] is None
            assert row["note"] is not None


def test_published_metrics_have_no_interval_and_no_test(tmp_path: Path) -> None:
    values: dict[str, list[float]] = {
        "accuracy": [0.7, 0.6, 0.65, 0.5],
        "ece": [0.1, 0.2, 0.3],
    }
    rows = [
        {
            "run_id": R,
            "level": level,
            **dict.fromkeys(METRIC_KEY, ""),
            "metric": name,
            "value": value,
        }
        for name, given in values.items()
        for level, value in enumerate(given)
    ]
    write(tmp_path, RUN | {"levels": [0, 1, 2, 3]}, reported=rows)
    metrics = by_key(tmp_path)
    assert len(metrics) == 7
    row = metrics["ece", "", "", "", 1]
    assert (row["value"], row["unpruned_value"], row["delta"]) == (0.2, 0.1, pytest.approx(0.1))
    assert row["n"] is row["ci_low"] is row["p_value"] is None
    assert {row["note"] for row in metrics.values()} == {NO_EXAMPLES_NOTE}
    correlated = by_key(tmp_path, "correlations")
    row = correlated["ece", "", "", "", "all"]
    expected = np.corrcoef([0.7, 0.6, 0.65], [0.1, 0.2, 0.3])[0, 1]
    assert row["pearson"] == pytest.approx(expected)
    assert row["pearson_low"] is None
    assert row["level_count"] == 3
    stable = correlated["ece", "", "", "", "stable"]
    assert (stable["pearson"], stable["note"]) == (None, NO_EXAMPLES_NOTE)
    assert {row["verdict"] for row in rows_of(tmp_path, "from verdicts")} == {None}


def test_calibration_metrics_are_defined_in_the_schema() -> None:
    assert set(calibration.CALIBRATION_METRICS) <= set(METRIC_DEFINITIONS)


def test_the_error_names_a_run_that_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path, RUN, predictions=drawn_predictions())
    with pytest.raises(LakeError, match="nowhere"):
        analyse(tmp_path, "nowhere")
