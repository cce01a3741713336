"""The flips of a plan: the forecast from other rows of the baseline, candidates, and needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunelake.analysis.flip_forecast import FlipModel
from prunelake.analysis.power import examples_for_share
from prunelake.analysis.statistics import exact_interval
from prunelake.errors import NothingToShow
from prunelake.lake.sql.views import connect
from prunelake.planning.flips import FlipNeed
from prunelake.planning.needs import VerdictPlan
from prunelake.planning.request import PlanRequest
from prunelake.planning.verdict_plan import plan_verdicts
from tests.support.runs.lake_rows import example, named_level, prediction, run_row, write

MARGINS = np.random.default_rng(3).exponential(2.0, 120)
PILOT = 40


def plans(lake: Path, *questions: dict[str, Any]) -> list[VerdictPlan]:
    with connect(lake) as connection:
        return [
            plan_verdicts(connection, PlanRequest(**{"model": "tiny", "task": "demo"} | question))
            for question in questions or [{}]
        ]


def by_label(plan: VerdictPlan) -> dict[str, FlipNeed]:
    return {flip.label: flip for flip in plan.flips}


def write_run_of(
    lake: Path, name: str, count: int, flips: dict[int, int], labels: Any = (), **columns: Any
) -> str:
    """A run of the first `count` margins; the examples with the smallest margins flip."""
    run = run_row(name, **{"levels": [0, *flips], "example_count": count} | columns)
    run_id = run["run_id"]
    names = [f"test:{row}" for row in range(count)]
    predictions = [
        prediction(run_id, 0, names[row], [float(MARGINS[row]), 0.0]) for row in range(count)
    ]
    for level, flipping in flips.items():
        smallest = set(np.argsort(MARGINS[:count])[:flipping])
        predictions += [
            prediction(run_id, level, names[row], [0.0, 1.0] if row in smallest else [1.0, 0.0])
            for row in range(count)
        ]
    return write(
        lake,
        run,
        examples=[example(run_id, each) for each in names],
        predictions=predictions,
        levels=[named_level(run_id, level, label) for level, label in enumerate(labels)],
    )


def test_a_pilot_without_other_rows_keeps_its_own_rate_with_its_exact_interval(
    tmp_path: Path,
) -> None:
    run_id = write_run_of(tmp_path, "run", PILOT, {1: 3, 2: 25})
    usual, deeper, powerful = plans(tmp_path, {}, {"levels": (0, 2)}, {"power": 0.9})
    found = by_label(usual)
    low, high = exact_interval(3, PILOT, 0.95)
    assert found["1"] == FlipNeed(
        level=1,
        label="1",
        run_id=run_id,
        margin=0.05,
        n=PILOT,
        pilot_rate=0.075,
        rows=PILOT,
        rate=0.075,
        low=low,
        high=high,
        is_forecast=False,
        is_decided=False,
        n_needed=examples_for_share(0.075, 0.05, 0.8),
    )
    assert (found["2"].is_decided, found["2"].n_needed) == (True, PILOT)
    assert by_label(deeper).keys() == {"2"}
    assert by_label(powerful)["1"].n_needed == examples_for_share(0.075, 0.05, 0.9)


def test_other_rows_of_the_baseline_give_a_forecast(tmp_path: Path) -> None:
    write_run_of(tmp_path, "run", PILOT, {1: 3})
    write_run_of(tmp_path, "baseline", 120, {}, strategy="last")
    write_run_of(tmp_path, "other format", 120, {}, strategy="last", dtype="bfloat16")
    (plan,) = plans(tmp_path)
    found = by_label(plan)["1"]
    is_flip = np.isin(np.arange(PILOT), np.argsort(MARGINS[:PILOT])[:3])
    expected = FlipModel(MARGINS).forecast(np.arange(120) < PILOT, is_flip)
    assert (found.rate, found.low, found.high) == pytest.approx(expected)
    assert (found.n, found.rows, found.is_forecast) == (PILOT, 120, True)
    assert found.n_needed == examples_for_share(found.rate, 0.05, 0.8)


def test_candidates_have_flips_under_their_names_without_any_pruned_level(tmp_path: Path) -> None:
    write_run_of(
        tmp_path,
        "compared",
        PILOT,
        {1: 3, 2: 0},
        labels=("float32", "int8", "bf16"),
        strategy="comparison",
        removal_order=[],
    )
    write_run_of(tmp_path, "baseline", 120, {}, strategy="last")
    (plan,) = plans(tmp_path)
    found = by_label(plan)
    assert {name: flip.pilot_rate for name, flip in found.items()} == {"int8": 0.075, "bf16": 0.0}
    assert {flip.rows for flip in plan.flips} == {120}
    assert (plan.needs, plan.rows, plan.command) == ((), 0, "")
    with pytest.raises(NothingToShow, match="give levels"):
        plans(tmp_path, {"task": "another"})
