"""verdicts: from given rows of lake.metrics, every verdict."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.multitest import multipletests

from prunelake.analysis.power import PairedSpread, examples_for_changes_between, examples_for_share
from prunelake.analysis.statistics import exact_interval
from prunelake.lake.commit import write_analysis, write_run
from prunelake.lake.sql.view_files import sql_folder
from prunelake.schema.metrics import AOPC_METRICS, FLIP_MARGIN, METRIC_DEFINITIONS
from prunelake.schema.verdicts import Verdict
from tests.support.endurance import repeats
from tests.support.lake_rows import frames, rows_of, run_row, small_analysis

Row = dict[str, Any]

CLOSE, FAR = (-0.01, 0.005), (-0.05, 0.005)  # 90 % intervals within and beyond the margin
FALLEN = -0.2, -0.1


def metric(
    name: str = "ece",
    delta: float | None = 0.05,
    p: float | None = 0.001,
    equivalence: tuple[float, float] | None = (0.03, 0.07),
    **columns: Any,
) -> Row:
    """A row of lake.metrics at level 1, by default of a metric that is worse."""
    low, high = equivalence or (None, None)
    return {
        "level": 1,
        "metric": name,
        "method": "",
        "operator": "",
        "variant": "",
        "higher_is_better": name == "accuracy",
        "is_tested": True,
        "delta": delta,
        "delta_se": None if delta is None else 0.01,
        "equivalence_low": low,
        "equivalence_high": high,
        "p_value": p,
        "paired_n": 100,
    } | columns


def accuracy(
    delta: float | None = -0.001,
    p: float | None = 0.9,
    equivalence: tuple[float, float] | None = CLOSE,
    **columns: Any,
) -> Row:
    return metric("accuracy", delta, p, equivalence, **columns)


def judged(lake: Path, *rows: Row, name: str = "run", sql: str = "from verdicts") -> list[Row]:
    run = run_row(name)
    run_id = str(run["run_id"])
    write_run(lake, run, frames())
    about, derived = small_analysis(run_id)
    table = derived["metrics"].clear()
    given = [dict.fromkeys(table.schema) | row | {"run_id": run_id} for row in rows]
    write_analysis(lake, about, derived | {"metrics": type(table)(given, schema=table.schema)})
    return rows_of(lake, sql)


STABLE = accuracy()
UNSURE = accuracy(-0.01, 0.4, FAR)
DOWN = accuracy(-0.15, 1e-4, FALLEN)
UP = accuracy(0.15, 1e-4, (0.1, 0.2))
DOWN_A_LITTLE = accuracy(-0.01, 1e-4, (-0.012, -0.008))
UNKNOWN = accuracy(None, None, None, paired_n=0, note="no example could be scored")

WORSE = metric()
BETTER = metric(delta=-0.05, equivalence=(-0.07, -0.03))
SAME = metric(delta=0.001, p=0.8, equivalence=CLOSE)
OPEN = metric(delta=0.01, p=0.3, equivalence=FAR)
WORSE_A_LITTLE = metric(delta=0.01, equivalence=(0.005, 0.015))
PERHAPS_WORSE_A_LITTLE = metric(delta=0.012, equivalence=(0.003, 0.021))
BETTER_A_LITTLE = metric(delta=-0.01, equivalence=(-0.015, -0.005))
LOST = metric(delta=None, p=None, equivalence=None, paired_n=0, note="no example could be scored")
MISSED = "a difference up to smallest_detectable could have been missed"
NEITHER = "worse, but accuracy is neither stable nor fallen"
NO_EXAMPLE = "no example could be scored"


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


@pytest.mark.parametrize(
    ("standing", "row", "verdict", "reason"),
    [
        (STABLE, WORSE, "hidden degradation", None),
        (STABLE, WORSE_A_LITTLE, "worse within margin", None),
        (STABLE, BETTER_A_LITTLE, "improved", None),
        (STABLE, PERHAPS_WORSE_A_LITTLE, "hidden degradation", None),  # not shown to be that small
        (STABLE, BETTER, "improved", None),
        (STABLE, SAME, "equivalent", None),
        (STABLE, OPEN, "inconclusive", MISSED),
        (STABLE, LOST, "inconclusive", NO_EXAMPLE),
        (STABLE, LOST | {"method": "lime"}, None, "not explained at this level"),
        (DOWN, WORSE, "visible degradation", None),
        (DOWN, WORSE_A_LITTLE, "worse within margin", None),
        (DOWN, BETTER, "improved", None),
        (DOWN, SAME, "equivalent", None),
        (DOWN, OPEN, "inconclusive", MISSED),
        # A fall that is shown to lie within the margin does not count.
        (DOWN_A_LITTLE, WORSE, "hidden degradation", None),
        (UNSURE, WORSE, "inconclusive", NEITHER),
        (UNSURE, WORSE_A_LITTLE, "worse within margin", None),
        (UNSURE, BETTER, "improved", None),
        (UNSURE, SAME, "equivalent", None),
        (UP, WORSE, "inconclusive", NEITHER),
        (UNKNOWN, WORSE, "inconclusive", NEITHER),
    ],
)
def test_the_verdict_on_a_metric(
    tmp_path: Path, standing: Row, row: Row, verdict: str | None, reason: str | None
) -> None:
    rows = judged(tmp_path, row, standing)
    (result,) = (r for r in rows if r["metric"] == "ece")
    assert (result["verdict"], result["reason"]) == (verdict, reason)
    assert result["is_shown_worse"] == (
        verdict in ("hidden degradation", "visible degradation") or reason == NEITHER
    )
    columns = ("delta", "equivalence_low", "equivalence_high")
    assert [result[name] for name in columns] == [row[name] for name in columns]
    assert result["margin"] == 0.02
    assert result["accuracy_delta"] == standing["delta"]


@pytest.mark.parametrize(
    ("row", "verdict", "reason"),
    [
        (STABLE, "equivalent", None),
        (DOWN_A_LITTLE, "equivalent", None),
        (DOWN, "visible degradation", None),
        (UP, "improved", None),
        (UNSURE, "inconclusive", MISSED),
        (UNKNOWN, "inconclusive", NO_EXAMPLE),
    ],
)
def test_the_verdict_on_accuracy_itself(
    tmp_path: Path, row: Row, verdict: str, reason: str | None
) -> None:
    (judged_row,) = judged(tmp_path, row)
    assert (judged_row["verdict"], judged_row["reason"]) == (verdict, reason)


def test_higher_is_better_reverses_the_sign(tmp_path: Path) -> None:
    columns = {"higher_is_better": True, "method": "lime"}
    worse = metric("overlap", -0.05, 0.001, (-0.07, -0.03), **columns)
    better = metric("agreement", 0.05, 0.001, (0.03, 0.07), **columns)
    rows = judged(tmp_path, STABLE, worse, better)
    result = {r["metric"]: (r["verdict"], r["method"]) for r in rows}
    assert result["overlap"] == ("hidden degradation", "lime")
    assert result["agreement"] == ("improved", "lime")


def test_only_tested_metrics_with_a_direction_are_judged(tmp_path: Path) -> None:
    rows = judged(
        tmp_path,
        STABLE,
        metric("overlap_10", is_tested=False),
        metric("mean_confidence", higher_is_better=None),
        metric(level=0),
    )
    assert [r["metric"] for r in rows] == ["accuracy"]


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


def test_published_numbers_have_no_verdict(tmp_path: Path) -> None:
    note = "published without examples: no interval, no test"
    unknown: Row = {"p_value": None, "equivalence_low": None, "equivalence_high": None}
    unknown |= {"paired_n": None, "delta_se": None, "note": note}
    rows = judged(tmp_path, accuracy(-0.1) | unknown, metric() | unknown)
    assert {(r["verdict"], r["reason"]) for r in rows} == {(None, note)}


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


def test_margins_and_the_false_discovery_rate_are_parameters(tmp_path: Path) -> None:
    rows = [STABLE, metric(p=0.04), metric("nll", 0.001, 0.8, (-0.015, 0.015))]

    def verdicts_with(arguments: str) -> dict[str, str]:
        answer = rows_of(tmp_path, f"from verdicts_at({arguments})")
        return {r["metric"]: r["verdict"] for r in answer}

    judged(tmp_path, *rows)
    expected = {"accuracy": "equivalent", "ece": "inconclusive", "nll": "equivalent"}
    assert verdicts_with("") == expected  # p_adjusted is 0.12
    assert verdicts_with("false_discovery_rate := 0.2") == expected | {"ece": "hidden degradation"}
    assert verdicts_with("metric_margin := 0.015") == expected | {
        "nll": "inconclusive"
    }  # the interval must lie inside the margin
    assert verdicts_with("metric_margin := 0.0151") == expected
    narrow = verdicts_with("accuracy_margin := 0.01, false_discovery_rate := 0.2")
    assert narrow == expected | {"accuracy": "inconclusive", "ece": "inconclusive"}
    (row,) = rows_of(tmp_path, "from verdicts_at(accuracy_margin := 0.01) where metric = 'ece'")
    assert not row["is_accuracy_stable"]


def test_p_is_adjusted_over_the_requested_runs(tmp_path: Path) -> None:
    judged(tmp_path, STABLE, metric(p=0.03), name="one")
    others = [metric(f"ece_{k}", p=0.9) for k in range(8)]
    judged(tmp_path, STABLE, *others, name="two")
    one, two = (run_row(name)["run_id"] for name in ("one", "two"))

    def adjusted(run_ids: str) -> float:
        sql = f"from verdicts_at(run_ids := {run_ids}) where metric = 'ece'"
        (row,) = rows_of(tmp_path, sql)
        return float(row["p_adjusted"])

    assert adjusted(f"['{one}']") == pytest.approx(0.03 * 2)
    assert adjusted("null") == adjusted(f"['{one}', '{two}']") == pytest.approx(0.03 * 11)
    rows = rows_of(tmp_path, f"from verdicts_at(run_ids := ['{two}'])")
    assert {r["run_id"] for r in rows} == {two}
    assert rows_of(tmp_path, "from verdicts_at(run_ids := [])") == []


@settings(max_examples=repeats(8, 20), deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.04, 1.0])),
        min_size=1,
        max_size=12,
    )
)
def test_p_adjusted_equals_that_of_statsmodels(p_values: list[float | None]) -> None:
    rows = [metric(f"ece_{i}", p=p) for i, p in enumerate(p_values)]
    with tempfile.TemporaryDirectory() as folder:
        result = {r["metric"]: r["p_adjusted"] for r in judged(Path(folder), *rows)}
    known = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(known, method="fdr_bh")[1] if known else [])
    for i, p in enumerate(p_values):
        expected = None if p is None else pytest.approx(next(adjusted), abs=1e-12)
        assert result[f"ece_{i}"] == expected


def test_the_verdicts_of_the_view_are_those_of_the_schema() -> None:
    macro = (sql_folder() / "comparisons" / "verdicts.sql").read_text(encoding="utf-8")
    (case,) = re.findall(r"case\n\s+when n is null.*?end as verdict", macro, re.DOTALL)
    words = re.findall(r"(?:then|else) '([a-z ]+)'", case)
    assert set(words) == set(Verdict) - {Verdict.worse}
