"""correlations: scipy on random metrics; constants, short series, gaps and scopes by hand."""

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, pearsonr, spearmanr

from tests.support.endurance import repeats
from tests.support.runs.lake_rows import deletion, prediction, rows_of, run_row, write

LEVELS = list(range(8))  # more than a test gives
RUN = run_row("run", model="m", strategy="cosine", task="t", levels=LEVELS)
R = str(RUN["run_id"])
KINDS = ("pearson", "spearman", "kendall")
ENDS = [f"{kind}_{end}" for kind in (*KINDS, "partial") for end in ("low", "high")]
KEY = ("run_id", "metric", "method", "operator", "variant")


def answers(level: int, correct: int, confidence: float, run_id: str = R) -> list[dict[str, Any]]:
    """Four predictions with the same confidence, of which `correct` are right."""
    other = math.log(1 - confidence) - math.log(confidence)
    return [
        prediction(run_id, level, f"test:{i}", [0.0, other], 0 if i < correct else 1)
        for i in range(4)
    ]


def explained(level: int, drop: float) -> dict[str, Any]:
    return deletion(R, level, "test:0", 0.5, drop)


def one(lake: Path, metric: str, scope: str = "all") -> dict[str, Any]:
    where = f"metric = '{metric}' and coalesce(variant, 'eraser') = 'eraser' and scope = '{scope}'"
    (row,) = rows_of(lake, f"from correlations where {where}")
    return row


def test_correlations_equal_values_worked_by_hand(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        predictions=[
            *answers(0, 4, 0.9),
            *answers(1, 3, 0.7),
            *answers(2, 2, 0.8),
        ],
        deletions=[explained(0, 0.5), explained(1, 0.375), explained(2, 0.25)],
    )
    # Two of the three pairs of levels agree.
    row = one(tmp_path, "mean_confidence")
    assert row | dict.fromkeys(ENDS) == {
        "run_id": R,
        "model": "m",
        "strategy": "cosine",
        "task": "t",
        "metric": "mean_confidence",
        "method": None,
        "operator": None,
        "variant": None,
        "scope": "all",
        "pearson": pytest.approx(0.5),
        "spearman": pytest.approx(0.5),
        "kendall": pytest.approx(1 / 3),
        "partial": None,  # of three levels
        "level_count": 3,
        "note": None,
    } | dict.fromkeys(ENDS)
    for kind in KINDS:
        assert -1 <= row[f"{kind}_low"] < row[kind] < row[f"{kind}_high"] <= 1
    row = one(tmp_path, "comprehensiveness")
    assert (row["method"], row["operator"], row["variant"]) == ("lime", "replace", "eraser")
    assert [row[name] for name in KINDS] == [pytest.approx(1)] * 3


def test_a_metric_of_some_levels_is_paired_by_level(tmp_path: Path) -> None:
    correct = [4, 1, 3, 2]
    write(
        tmp_path,
        RUN,
        predictions=[p for level in range(4) for p in answers(level, correct[level], 0.75)],
        # Level 1 does not count: its accuracy would change the sign.
        deletions=[explained(0, 0.5), explained(2, 0.375), explained(3, 0.25)],
    )
    row = one(tmp_path, "comprehensiveness")
    assert row["level_count"] == 3
    assert row["pearson"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("levels", "metric", "note"),
    [
        ([(4, 0.9), (2, 0.8)], "mean_confidence", "fewer than 3 levels"),
        ([(2, 0.9), (2, 0.8), (2, 0.7)], "mean_confidence", "constant accuracy"),
        ([(4, 0.75), (2, 0.75), (1, 0.75)], "mean_confidence", "constant metric"),
        # The confidence does not depend on correctness: AUROC is 1/2 where it is defined.
        ([(3, 0.9), (2, 0.8), (1, 0.7)], "auroc", "constant metric"),
        ([(4, 0.9), (2, 0.8), (1, 0.7)], "auroc", "fewer than 3 levels"),
        ([(4, 0.9), (4, 0.8), (4, 0.7)], "auroc", "fewer than 3 levels"),
    ],
)
def test_an_undefined_correlation_is_null_with_the_reason(
    tmp_path: Path, levels: list[tuple[int, float]], metric: str, note: str
) -> None:
    write(
        tmp_path,
        RUN,
        predictions=[p for level, given in enumerate(levels) for p in answers(level, *given)],
    )
    row = one(tmp_path, metric)
    assert row["note"] == note
    assert [row[name] for name in KINDS] == [None] * 3


def test_rounding_errors_do_not_decide_ranks(tmp_path: Path) -> None:
    write(
        tmp_path,
        RUN,
        predictions=[p for level in range(4) for p in answers(level, 4 - level, 0.75)],
        deletions=[explained(level, 0.1 + level * 1e-16) for level in range(4)],
    )
    assert one(tmp_path, "comprehensiveness")["note"] == "constant metric"


def test_accuracy_is_not_correlated_with_itself_and_keys_are_unique(tmp_path: Path) -> None:
    for name in ("run", "other"):
        run = run_row(name, levels=[0, 1, 2])
        run_id = str(run["run_id"])
        rows = [p for level in range(3) for p in answers(level, 4 - level, 0.75, run_id)]
        write(tmp_path, run, predictions=rows)
    metrics = rows_of(tmp_path, "select distinct metric from metrics")
    rows = rows_of(tmp_path, "from correlations")
    keys = {(*(r[name] for name in KEY), r["scope"]) for r in rows}
    assert len(keys) == len(rows) == 2 * 2 * (len(metrics) - 1)
    assert "accuracy" not in {r["metric"] for r in rows}


def test_the_scope_stable_covers_the_levels_with_stable_accuracy(
    tmp_path: Path,
) -> None:
    # Level 3 loses half of 200 examples. No loss among 200 examples shows a change below 0.02.
    right = [200, 200, 200, 100, 200]
    write(
        tmp_path,
        RUN,
        predictions=[
            prediction(R, level, f"test:{i}", [0.0, -1.0 - level / 10], int(i >= count))
            for level, count in enumerate(right)
            for i in range(200)
        ],
    )
    deltas = rows_of(tmp_path, "from deltas where metric = 'accuracy' and level > 0 and n > 0")
    stable = [
        r["level"] for r in deltas if max(-r["equivalence_low"], r["equivalence_high"]) < 0.02
    ]
    assert stable == [1, 2, 4]
    row = one(tmp_path, "mean_confidence", "stable")
    assert (row["level_count"], row["note"]) == (4, "constant accuracy")
    assert one(tmp_path, "mean_confidence")["level_count"] == 5


options = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5]), min_size=2, max_size=2)


@settings(max_examples=repeats(6, 12), deadline=None)
@given(
    st.integers(3, 7).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(options, min_size=5, max_size=5), min_size=n, max_size=n),
            st.lists(st.sampled_from([-0.25, 0.0, 0.125, 0.5]), min_size=n, max_size=n),
        )
    )
)
def test_correlations_of_random_metrics_equal_scipy(
    drawn: tuple[list[list[list[float]]], list[float]],
) -> None:
    levels, drops = drawn
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder)
        write(
            lake,
            RUN,
            50,
            predictions=[
                prediction(R, level, f"test:{i}", log_likelihoods, i % 2)
                for level, examples in enumerate(levels)
                for i, log_likelihoods in enumerate(examples)
            ],
            deletions=[explained(level, drop) for level, drop in enumerate(drops)],
        )
        metrics = rows_of(lake, "from metrics where value is not null order by level")
        correlations = rows_of(lake, "from correlations where scope = 'all'")
    series: dict[tuple[Any, ...], dict[int, float]] = {}
    for row in metrics:
        series.setdefault(tuple(row[name] for name in KEY), {})[row["level"]] = round(
            row["value"], 12
        )
    accuracy = series[R, "accuracy", None, None, None]
    assert {r["metric"] for r in correlations} > {"ece", "comprehensiveness"}
    for row in correlations:
        values = series.get(tuple(row[name] for name in KEY), {})
        x, y = [accuracy[level] for level in values], list(values.values())
        coefficients = [row[name] for name in KINDS]
        assert row["level_count"] == len(y)
        if len(y) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
            assert coefficients == [None] * 3
            assert row["note"] is not None
        else:
            expected = [f(x, y).statistic for f in (pearsonr, spearmanr, kendalltau)]
            assert coefficients == pytest.approx(expected, abs=1e-9)
            without_interval = [
                kind
                for kind in (*KINDS, "partial")
                if row[kind] is not None and row[f"{kind}_low"] is None
            ]
            assert (row["note"] is None) == (not without_interval)
