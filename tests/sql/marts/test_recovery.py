"""The view recovery: a published example, and properties of its interval."""

from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from prunelake.lake.sql.views import connect
from tests.support.runs.lake_rows import prediction, rows_of, run_row, write_raw

RIGHT, WRONG = [-1.0, -2.0], [-2.0, -1.0]
PAIRS = ((RIGHT, RIGHT), (RIGHT, WRONG), (WRONG, RIGHT), (WRONG, WRONG))
Counts = tuple[int, int, int, int]
"""Examples that both levels get right, only level 0, only level 1, and neither."""


def recovery(lake: Path, counts: Counts) -> dict[str, Any]:
    """The row of the view for a run with these counts."""
    run = run_row(str(counts))
    run_id = str(run["run_id"])
    answers = chain.from_iterable(map(repeat, PAIRS, counts))
    write_raw(
        lake,
        run,
        predictions=[
            prediction(run_id, level, f"test:{row}", pair[level])
            for row, pair in enumerate(answers)
            for level in (0, 1)
        ],
    )
    with connect(lake, [run_id]) as connection:
        answer = connection.sql("select * exclude run_id from recovery")
        return dict(zip(answer.columns, answer.fetchall()[0], strict=True))


def test_a_published_example(tmp_path: Path) -> None:
    # https://search.r-project.org/CRAN/refmans/statpsych/html/ci.ratio.prop.ps.html
    row = recovery(tmp_path, (6, 4, 26, 12))
    assert (row["label"], row["n"]) == ("1", 48)
    assert (row["accuracy"], row["unpruned_accuracy"]) == (32 / 48, 10 / 48)
    assert row["recovery"] == pytest.approx(3.2, rel=1e-12)
    assert row["recovery_low"] == pytest.approx(1.766544, abs=5e-7)
    assert row["recovery_high"] == pytest.approx(5.796628, abs=5e-7)


@pytest.mark.parametrize("counts", [(50, 3, 9, 20), (5, 5, 0, 1), (80, 1, 1, 40), (9, 0, 0, 0)])
def test_the_other_direction_has_the_reciprocal_interval(tmp_path: Path, counts: Counts) -> None:
    both, lost, gained, neither = counts
    there = recovery(tmp_path / "a", counts)
    back = recovery(tmp_path / "b", (both, gained, lost, neither))
    assert there["recovery_low"] < there["recovery"] < there["recovery_high"]
    assert there["recovery"] == pytest.approx(1 / back["recovery"], rel=1e-12)
    assert there["recovery_low"] == pytest.approx(1 / back["recovery_high"], rel=1e-12)


def test_a_level_that_is_never_right_recovers_nothing(tmp_path: Path) -> None:
    row = recovery(tmp_path, (0, 20, 0, 5))
    assert (row["recovery"], row["recovery_low"]) == (0, 0)
    assert 0 < row["recovery_high"] < 0.5


def test_a_baseline_that_is_never_right_has_no_recovery(tmp_path: Path) -> None:
    row = recovery(tmp_path, (0, 0, 3, 5))
    assert (row["recovery"], row["recovery_low"], row["recovery_high"]) == (None, None, None)


def test_level_0_has_no_row(tmp_path: Path) -> None:
    recovery(tmp_path, (2, 1, 1, 1))
    assert rows_of(tmp_path, "select level from recovery") == [{"level": 1}]
