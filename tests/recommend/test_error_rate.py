"""The bounds of losses at a smaller error rate than that of the view `criteria`."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from prunelake.analysis import sequential
from prunelake.analysis.sequential import nominal_level
from prunelake.analysis.statistics import tango_interval
from prunelake.lake.sql.bound_query import BoundQuery
from prunelake.lake.sql.views import connect, query
from prunelake.recommend.error_rate import LastLooks, at_error_rate, discordant_counts
from tests.support.runs.sequential_runs import DESIGN, sequential_run, write_first_rows

RATE = 0.01


def test_a_sequential_run_is_tested_at_the_nominal_level_of_its_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "MIN_LOOK", 1)
    monkeypatch.setattr("prunelake.analysis.analyse.recalibrate", lambda *_: {"metrics": []})
    run_id = write_first_rows(tmp_path, sequential_run(DESIGN, 40, l1=6), {0: 8, 1: 6, 2: 8})
    with connect(tmp_path, [run_id]) as connection:
        runs = BoundQuery("from runs").rows(connection)
        checks = BoundQuery("from criteria where calibrator is null").rows(connection)
        counts = discordant_counts(connection, [run_id])
        last_looks = LastLooks.read(connection, runs)
    found = at_error_rate(checks, counts, RATE, last_looks)
    bounds = {(row["level"], row["metric"]): row for row in found.iter_rows(named=True)}
    times = (20 / 60, 40 / 60)
    confidences = [1 - nominal_level(times, tail) for tail in (0.025, 0.05)]
    for level in (1, 2):
        # The standard error and the centre follow from the two intervals of the last look.
        look = query(
            tmp_path,
            "select delta_high, equivalence_high from looks "
            "where metric = 'ece' and level = $level and look = 3",
            level=level,
        )
        wide, narrow = look.row(0)
        upper = [float(t.ppf(confidence, 39)) for confidence in confidences]
        error = (wide - narrow) / (upper[0] - upper[1])
        expected = narrow + (t.ppf(1 - nominal_level(times, RATE), 39) - upper[1]) * error
        assert bounds[level, "ece"]["loss_bound"] == pytest.approx(expected)
        accuracy = bounds[level, "accuracy"]
        confidence = 1 - 2 * nominal_level(times, RATE)
        tango = -tango_interval(*counts[run_id, level], 40, confidence)[0]
        assert accuracy["loss_bound"] == pytest.approx(tango)
    # At 5 % these are the bounds of the last look.
    same = at_error_rate(checks, counts, 0.05, last_looks).filter(metric="ece")["loss_bound"]
    raw = query(
        tmp_path,
        "select equivalence_high from looks where metric = 'ece' and look = 3 order by level",
    )
    assert same.to_list() == pytest.approx(raw["equivalence_high"].to_list())


def test_the_bound_of_equal_examples_has_its_error_rate() -> None:
    share = 2 * (1 - 0.05 ** (1 / 400))
    checks = pl.DataFrame(
        {
            "run_id": ["r"],
            "level": [1],
            "calibrator": pl.Series([None], dtype=pl.String),
            "criterion": ["calibration"],
            "metric": ["ece"],
            "method": pl.Series([None], dtype=pl.String),
            "loss": [0.0],
            "loss_bound": [share],
            "delta_se": pl.Series([None], dtype=pl.Float64),
            "margin": [0.02],
            "n": [400],
            "is_level_tested": [True],
        }
    )
    (row,) = at_error_rate(checks, {}, RATE).to_dicts()
    assert row["loss_bound"] == pytest.approx(2 * (1 - RATE ** (1 / 400)))
    assert (row["is_met"], row["n_needed"]) == (False, 458)
    exact = np.log(RATE) / np.log(1 - 0.02 / 2)
    assert row["n_needed"] == pytest.approx(exact, rel=0.01)
