"""verdicts of flip rates and equal examples; the examples and changes that decide a verdict."""

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom, binomtest

from prunelake.analysis.power import PairedSpread, examples_for_changes_between, examples_for_share
from prunelake.analysis.statistics import exact_interval
from prunelake.schema.metrics import AOPC_METRICS, FLIP_MARGIN, METRIC_DEFINITIONS
from tests.support.runs.lake_rows import rows_of
from tests.support.runs.verdict_rows import DOWN, OPEN, SAME, STABLE, UNSURE, Row, judged, metric


def equal(name: str = "ece", n: int = 298, **columns: Any) -> Row:
    """A row of a metric that is equal at both levels in all of n examples."""
    note = "no variation among the examples"
    row = metric(name, 0.0, None, None, paired_n=n, delta_se=None, note=note)
    return row | {"higher_is_better": name.startswith("compreh")} | columns


def test_equal_examples_are_equivalent_if_they_are_enough(tmp_path: Path) -> None:
    """2 (1 - 0.05^(1/n)) is below 0.02 from 299 examples on."""
    assert 2 * (1 - 0.05 ** (1 / 299)) < 0.02 < 2 * (1 - 0.05 ** (1 / 298))
    for n, verdict, needed in ((298, "inconclusive", 299), (299, "equivalent", None)):
        (row,) = (
            row for row in judged(tmp_path / str(n), STABLE, equal(n=n)) if row["metric"] == "ece"
        )
        assert (row["verdict"], row["n_needed"]) == (verdict, needed)
        assert row["equivalence_high"] == pytest.approx(2 * (1 - 0.05 ** (1 / n)))
        assert row["equivalence_low"] == -row["equivalence_high"]
        assert (row["delta"], row["delta_low"], row["is_shown_worse"]) == (0, None, False)
        assert (row["reason"] is None) == (verdict == "equivalent")
    # A sequential run, a metric without a limit, a random ranking and other resamples have no such
    # bound.
    others = [
        equal(look_count=2),
        equal("nll"),
        equal("comprehensiveness", method="lime", operator="replace", variant="normalised"),
        equal("brier", delta_se=0.01),
    ]
    rows = judged(
        tmp_path / "others", STABLE, *others, sql="from deltas where metric != 'accuracy'"
    )
    assert len(rows) == len(others)
    assert {row["equivalence_high"] for row in rows} == {None}


@pytest.mark.parametrize("name", ["ece", "brier", "repetition", *AOPC_METRICS])
def test_the_bound_of_equal_examples_follows_from_the_range_of_the_metric(
    tmp_path: Path, name: str
) -> None:
    columns = {"method": "lime"} if name in AOPC_METRICS else {}
    (row,) = judged(tmp_path, equal(name, 100, **columns), sql="from deltas")
    width = METRIC_DEFINITIONS[name].high - METRIC_DEFINITIONS[name].low
    greatest = width * (2 if name == "ece" else 1)
    assert row["equivalence_high"] == pytest.approx(greatest * (1 - 0.05 ** (1 / 100)))


def flips(count: int, n: int, level: int = 1) -> Row:
    """A row of the flip rate: `count` of `n` predictions changed."""
    low, high = exact_interval(count, n, 0.9)
    return metric("flip_rate", count / n, None, (low, high), level=level, paired_n=n) | {
        "paired_value": count / n
    }


@pytest.mark.parametrize(
    ("standing", "count", "verdict"),
    [
        (STABLE, 68, "hidden degradation"),
        (DOWN, 68, "visible degradation"),
        (UNSURE, 68, "inconclusive"),
        (STABLE, 55, "inconclusive"),  # above the margin by chance
        (STABLE, 35, "equivalent"),
        (STABLE, 0, "equivalent"),
    ],
)
def test_a_flip_rate_is_judged_by_its_margin(
    tmp_path: Path, standing: Row, count: int, verdict: str
) -> None:
    rows = judged(tmp_path, standing, flips(count, 1000))
    (row,) = (row for row in rows if row["metric"] == "flip_rate")
    assert row["verdict"] == verdict
    assert row["margin"] == FLIP_MARGIN
    assert row["is_shown_worse"] == (count == 68)
    exact = binomtest(count, 1000, FLIP_MARGIN, alternative="greater").pvalue
    assert row["p_value"] == pytest.approx(exact, rel=1e-6)
    (wide,) = rows_of(tmp_path, "from verdicts_at(metric_margin := 1.5) where metric = 'flip_rate'")
    assert wide["verdict"] == "equivalent"


def test_an_inconclusive_flip_rate_has_the_smallest_detectable_rate(tmp_path: Path) -> None:
    n = 1000
    rows = judged(tmp_path, STABLE, flips(50, n))
    (row,) = (row for row in rows if row["metric"] == "flip_rate")
    critical = binom.isf(0.05, n, FLIP_MARGIN) + 1
    assert binom.sf(critical - 1, n, row["smallest_detectable"]) == pytest.approx(0.8, abs=0.04)


def test_an_inconclusive_verdict_names_the_examples_that_decide_it(tmp_path: Path) -> None:
    """The oracle is the power function of `prunelake plan`."""
    half = 1.6448536 * 0.01
    plain = metric(delta=0.0, p=0.9, equivalence=(-half, 0.021), paired_n=1000, method="plain")
    biased = metric("brier", 0.0, 0.9, (-half - 0.01, half), paired_n=1000)
    lucky = metric("nll", 0.0, 0.9, (-0.0201, 0.0), paired_n=1000, delta_se=0.001)
    rows = judged(tmp_path, UNSURE, DOWN | {"level": 2}, SAME, plain, biased, lucky)
    needed = {(r["metric"], r["method"], r["level"]): r["n_needed"] for r in rows}
    assert needed["ece", None, 1] is None  # equivalent
    assert needed["accuracy", None, 2] is None  # changed
    root_n = 1000**0.5
    for key, excess in ((("ece", "plain", 1), 0.021 - half), (("brier", None, 1), 0.01)):
        spread = PairedSpread(0.01 * root_n, excess * root_n)
        expected = examples_for_changes_between(-1, 1, spread, 0.02)
        assert needed[key] == pytest.approx(expected, rel=0.01)
    assert needed["nll", None, 1] == 1500


@pytest.mark.parametrize("count", [42, 60])
def test_an_inconclusive_flip_rate_names_the_examples_that_place_it_at_its_margin(
    tmp_path: Path, count: int
) -> None:
    """The oracle is the exact binomial test of `prunelake plan`."""
    (row,) = (r for r in judged(tmp_path, STABLE, flips(count, 1000)) if r["metric"] == "flip_rate")
    assert row["verdict"] == "inconclusive"
    expected = examples_for_share(count / 1000, FLIP_MARGIN)
    assert row["n_needed"] == pytest.approx(expected, rel=0.08)


def test_an_inconclusive_change_has_the_smallest_detectable_change(tmp_path: Path) -> None:
    rows = judged(tmp_path, STABLE, OPEN, metric("nll"), metric("brier", p=None))
    result = {r["metric"]: r["smallest_detectable"] for r in rows}
    # For a normal estimate P(|z| > 1.96) is 80 % if its mean is 1.96 + 0.84 standard errors off.
    assert result["ece"] == pytest.approx((1.959964 + 0.841621) * 0.01)
    assert result["brier"] == pytest.approx(result["ece"])
    assert result["nll"] is None
