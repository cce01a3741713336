"""pooled_correlations: the oracle is pingouin; a constructed Simpson's paradox; gaps."""

import tempfile
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunelake.lake.commit import write_analysis, write_run
from tests.support.endurance import repeats
from tests.support.runs.lake_rows import frames, rows_of, run_row, small_analysis

Pairs = Sequence[tuple[float | None, float | None]]


def pool(lake: Path, *runs: Pairs, **columns: Any) -> None:
    """Write runs; each is a list of (accuracy, ECE) by level."""
    for k, pairs in enumerate(runs):
        run = run_row(f"{columns}{k}", model=f"m{k}", **columns)
        run_id = str(run["run_id"])
        write_run(lake, run, frames())
        about, derived = small_analysis(run_id)
        schema = derived["metrics"].schema
        rows = [
            dict.fromkeys(schema)
            | {"run_id": run_id, "level": level, "metric": name, "value": value}
            | dict.fromkeys(("method", "operator", "variant"), "")
            for level, values in enumerate(pairs)
            for name, value in zip(("accuracy", "ece"), values, strict=True)
        ]
        write_analysis(lake, about, derived | {"metrics": pl.DataFrame(rows, schema=schema)})


def pooled(lake: Path) -> dict[str, Any]:
    (row,) = rows_of(lake, "from pooled_correlations")
    return row


def falling(start: float, count: int = 4, error: float = 0.0) -> list[tuple[float, float]]:
    """Accuracy and calibration error that fall together, from `start`."""
    return [(start - 0.1 * k, start / 2 + error - 0.1 * k) for k in range(count)]


def test_a_run_that_has_grown_counts_once(tmp_path: Path) -> None:
    small, other, grown = (
        [(0.1 * k, int(v) / 9) for k, v in enumerate(w)] for w in ("351", "264", "174")
    )
    pool(tmp_path / "expected", other, grown)
    pool(tmp_path / "lake", small, other)
    pool(tmp_path / "lake", grown, created_at=datetime(2026, 2, 1, tzinfo=UTC))
    assert pooled(tmp_path / "lake") == pytest.approx(pooled(tmp_path / "expected"))


@settings(max_examples=repeats(8, 15), deadline=None)
@given(
    st.lists(st.integers(2, 6), min_size=3, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_repeated_measures_equals_pingouin(sizes: list[int], seed: int) -> None:
    import pingouin

    generator = np.random.default_rng(seed)
    runs = [(generator.normal() + generator.normal(size=(size, 2))).tolist() for size in sizes]
    with tempfile.TemporaryDirectory() as folder:
        pool(Path(folder), *runs)
        row = pooled(Path(folder))
    points = [(k, *pair) for k, pairs in enumerate(runs) for pair in pairs]
    frame = pl.DataFrame(points, schema=["run", "x", "y"], orient="row").to_pandas()
    with warnings.catch_warnings(action="ignore"):  # pandas warns about calls in pingouin
        expected = pingouin.rm_corr(frame, "x", "y", "run").iloc[0]
    assert row["repeated_measures"] == pytest.approx(expected["r"])
    assert row["degrees_of_freedom"] == expected["dof"]
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    assert row["pooled_pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    # Fisher's z for two more points than degrees of freedom (pingouin rounds its interval).
    z, half = np.arctanh(expected["r"]), 1.959964 / np.sqrt(expected["dof"] - 1)
    assert row["repeated_measures_low"] == pytest.approx(np.tanh(z - half), abs=1e-6)
    assert row["repeated_measures_high"] == pytest.approx(np.tanh(z + half), abs=1e-6)
    ends = row["repeated_measures_low"], row["repeated_measures_high"]
    assert ends == pytest.approx(tuple(expected["CI95"]), abs=0.0051)
    assert row["is_simpson"] == (row["repeated_measures"] * row["pooled_pearson"] < 0)
    assert (row["run_count"], row["point_count"]) == (len(sizes), sum(sizes))


def test_is_simpson_warns_of_simpsons_paradox(tmp_path: Path) -> None:
    # Within each run the error falls with accuracy, but the more accurate run has less error.
    pool(tmp_path, falling(0.9, error=-0.4), falling(0.5, error=0.4))
    row = pooled(tmp_path)
    assert row["repeated_measures"] == pytest.approx(1)
    assert row["pooled_pearson"] < -0.5
    assert row["is_simpson"] is True


def test_is_simpson_is_false_for_runs_that_agree(tmp_path: Path) -> None:
    pool(tmp_path, falling(0.9), falling(0.8))
    assert pooled(tmp_path)["is_simpson"] is False


def constant(metric: float) -> Pairs:
    return [(0.1 * k, metric) for k in range(4)]


@pytest.mark.parametrize(
    ("runs", "note"),
    [
        ([falling(0.9)], "fewer than 2 runs"),
        ([falling(0.9), falling(0.8, 1)], "fewer than 2 runs"),  # one level shows no change
        ([falling(0.9, 2), falling(0.8, 2)], "fewer than 2 degrees of freedom"),
        ([[(0.5, 0.1 * k) for k in range(4)]] * 2, "constant accuracy"),
        ([constant(0.5), constant(0.5)], "constant metric"),
        ([constant(0.5), constant(0.9)], "constant metric"),  # constant within each run
    ],
)
def test_an_undefined_correlation_has_a_note(tmp_path: Path, runs: list[Pairs], note: str) -> None:
    pool(tmp_path, *runs)
    row = pooled(tmp_path)
    assert row["note"] == note
    for column in ("repeated_measures", "repeated_measures_low", "pooled_pearson", "is_simpson"):
        assert row[column] is None


def test_levels_without_accuracy_or_the_metric_do_not_count(tmp_path: Path) -> None:
    gaps: Pairs = [*falling(0.9), (None, 0.9), (0.1, None)]
    pool(tmp_path, gaps, falling(0.7))
    row = pooled(tmp_path)
    assert (row["point_count"], row["degrees_of_freedom"]) == (8, 5)
    assert row["repeated_measures"] == pytest.approx(1)


def test_strategies_are_pooled_separately(tmp_path: Path) -> None:
    pool(tmp_path, falling(0.9), falling(0.8), strategy="cosine")
    pool(tmp_path, falling(0.9), falling(0.8), falling(0.7), strategy="random:1")
    rows = rows_of(tmp_path, "from pooled_correlations")
    assert {r["strategy"]: r["run_count"] for r in rows} == {"cosine": 2, "random:1": 3}
