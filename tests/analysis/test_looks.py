"""The looks of a sequential run: each is an analysis of its first rows; then all of them."""

from pathlib import Path
from typing import Any

import pytest
from scipy.stats import t

from prunelake.analysis import sequential
from prunelake.analysis.looks import combine_looks, decision
from prunelake.analysis.sequential import nominal_level
from tests.support.runs.lake_rows import rows_of
from tests.support.runs.sequential_runs import DESIGN, sequential_run, write_first_rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequential, "MIN_LOOK", 1)
        write_first_rows(folder, sequential_run(DESIGN, 40, l1=6), {0: 8, 1: 6, 2: 8})
        write_first_rows(folder, sequential_run(None, 20, l1=6, l2=4), {0: 6, 1: 6, 2: 4})
    return folder


def test_each_look_is_the_analysis_of_its_rows_at_a_stricter_level(lake: Path) -> None:
    fixed = {
        cell(row): row
        for row in rows_of(lake, "from deltas where look_count is null and is_tested")
    }
    checked = 0
    for row in rows_of(lake, "from looks where look = 1"):
        before = fixed[cell(row)]
        assert row["n"] == before["n"]
        assert row["delta"] == pytest.approx(before["delta"], rel=1e-6)
        if row["metric"] in ("brier", "nll", "comprehensiveness"):
            time = 20 / 60
            if row["method"]:
                time = 6 / 12 if row["level"] == 1 else 4 / 16
            half = t.isf(nominal_level((time,), 0.05), row["n"] - 1) * before["delta_se"]
            assert row["equivalence_high"] - row["delta"] == pytest.approx(half, rel=1e-5)
            assert row["p_value"] > before["p_value"]
            checked += 1
    assert checked == 20


def cell(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("metric", "method", "operator", "variant", "level"))


def test_looks_without_new_examples_spend_nothing(lake: Path) -> None:
    rows = rows_of(lake, "select metric, level, method, look_count from deltas where level > 0")
    counts = {
        (r["metric"], r["level"], r["method"]): r["look_count"] for r in rows if r["look_count"]
    }
    assert counts["accuracy", 1, None] == 2  # 20, 20 and 40 rows
    assert counts["comprehensiveness", 1, "lime"] == 1  # 6, 6 and 6
    assert counts["comprehensiveness", 2, "lime"] == 3  # 4, 6 and 8


def test_the_intervals_of_the_run_are_the_intersection_over_its_looks(lake: Path) -> None:
    (narrower,) = rows_of(
        lake,
        """
        select count(*) as n from deltas
        inner join (
            select run_id, level, metric, method, operator, variant,
                max(equivalence_low) as low, min(equivalence_high) as high, min(p_value) as p
            from looks group by all
        ) as found using (run_id, level, metric)
        where deltas.method is not distinct from found.method
            and deltas.operator is not distinct from found.operator
            and deltas.variant is not distinct from found.variant
            and low <= high
            and (abs(equivalence_low - low) > 1e-9 or abs(equivalence_high - high) > 1e-9
                or abs(p_value - p) > 1e-9)
        """,
    )
    assert narrower["n"] == 0
    names = rows_of(lake, "select distinct look, look_run_id from looks order by look")
    assert [row["look_run_id"][:1] for row in names][:2] == ["a", "b"]
    verdicts = rows_of(lake, "select distinct is_sequential, run_id from verdicts")
    assert sorted(row["is_sequential"] for row in verdicts) == [False, True]


def metric(low: float | None, high: float | None, p: float | None) -> dict[str, Any]:
    row = {"level": 1, "metric": "ece", "method": "", "operator": "", "variant": ""}
    return row | {
        "delta_low": low,
        "delta_high": high,
        "equivalence_low": low,
        "equivalence_high": high,
        "p_value": p,
    }


def test_contradicting_and_unknown_looks_keep_the_last_interval() -> None:
    last = metric(0.3, 0.5, 0.2)
    combine_looks([[metric(-0.5, 0.4, 0.04)], [metric(None, None, None)], [last]])
    assert (last["delta_low"], last["delta_high"], last["p_value"]) == (0.3, 0.4, 0.04)
    last = metric(0.3, 0.5, None)
    combine_looks([[metric(-0.5, 0.2, 0.04)], [last]])
    assert (last["delta_low"], last["delta_high"], last["p_value"]) == (0.3, 0.5, None)


def test_a_decision_is_equivalent_changed_or_open() -> None:
    assert decision(metric(-0.1, 0.1, 0.01), 0.2) == "equivalent"
    assert decision(metric(-0.1, 0.3, 0.01), 0.2) == "changed"
    assert decision(metric(-0.1, 0.3, 0.5), 0.2) is None
    assert decision(metric(None, None, None), 0.2) is None
