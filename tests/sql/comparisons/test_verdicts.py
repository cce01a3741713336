"""verdicts: from given rows of lake.metrics, every verdict."""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from prunelake.lake.sql.view_files import sql_folder
from prunelake.schema.verdicts import Verdict
from tests.support.endurance import repeats
from tests.support.runs.lake_rows import rows_of, run_row
from tests.support.runs.verdict_rows import (
    BETTER,
    BETTER_A_LITTLE,
    DOWN,
    DOWN_A_LITTLE,
    LOST,
    MISSED,
    NEITHER,
    NO_EXAMPLE,
    OPEN,
    PERHAPS_WORSE_A_LITTLE,
    SAME,
    STABLE,
    UNKNOWN,
    UNSURE,
    UP,
    WORSE,
    WORSE_A_LITTLE,
    Row,
    accuracy,
    judged,
    metric,
)


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


def test_published_numbers_have_no_verdict(tmp_path: Path) -> None:
    note = "published without examples: no interval, no test"
    unknown: Row = {"p_value": None, "equivalence_low": None, "equivalence_high": None}
    unknown |= {"paired_n": None, "delta_se": None, "note": note}
    rows = judged(tmp_path, accuracy(-0.1) | unknown, metric() | unknown)
    assert {(r["verdict"], r["reason"]) for r in rows} == {(None, note)}


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
def test_p_adjusted_equals_statsmodels(p_values: list[float | None]) -> None:
    rows = [metric(f"ece_{i}", p=p) for i, p in enumerate(p_values)]
    with tempfile.TemporaryDirectory() as folder:
        result = {r["metric"]: r["p_adjusted"] for r in judged(Path(folder), *rows)}
    known = [p for p in p_values if p is not None]
    adjusted = iter(multipletests(known, method="fdr_bh")[1] if known else [])
    for i, p in enumerate(p_values):
        expected = None if p is None else pytest.approx(next(adjusted), abs=1e-12)
        assert result[f"ece_{i}"] == expected


def test_the_verdicts_of_the_view_match_the_schema() -> None:
    macro = (sql_folder() / "comparisons" / "verdicts.sql").read_text(encoding="utf-8")
    (case,) = re.findall(r"case\n\s+when n is null.*?end as verdict", macro, re.DOTALL)
    words = re.findall(r"(?:then|else) '([a-z ]+)'", case)
    assert set(words) == set(Verdict) - {Verdict.worse}
